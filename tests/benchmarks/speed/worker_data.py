"""What a worker does with data: k-space from HDF5, undersampled, slice by slice or volume by volume."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

clock = time.perf_counter
state: dict = {}
ACCELERATION, CENTER_FRACTION = 4, 0.08


def open_data(kind: str, folder: str, num_workers: int = 0) -> None:
    """Make the loader of `ours`, `fastmri` or `monai` over the volumes of a folder."""
    pinned = torch.cuda.is_available()
    state["loader"] = DataLoader(LOADERS[kind](folder), batch_size=1, num_workers=num_workers, pin_memory=pinned)
    state["read"] = READS[kind]


def epoch() -> float:
    """Seconds per slice of one pass over the volumes."""
    start, count = clock(), 0
    for batch in state["loader"]:
        kspace = state["read"](batch)[0]
        count += kspace.shape[:-4].numel()  # (B, C, H, W, 2), or MONAI's (B, slices, C, H, W, 2)
    return (clock() - start) / count


def write_slice(path: str) -> None:
    """Write what the loader makes of the first slice: masked k-space (C, H, W, 2) and target (h, w)."""
    kspace, target = state["read"](next(iter(state["loader"])))
    kspace = kspace.reshape(-1, *kspace.shape[-4:])[0]
    torch.save({"masked_kspace": kspace.clone(), "target": target.reshape(-1, *target.shape[-2:])[0].clone()}, path)


def feed(steps: int) -> list[float]:
    """Train the loaded network on the loader's batches: seconds of waiting and of training per step, by the wall."""
    from tests.benchmarks.speed import worker_network

    waits, trains = 0.0, 0.0
    batches = _endless(state["loader"])
    next(batches)  # the workers have started
    for _ in range(steps):
        start = time.perf_counter()
        batch = next(batches)
        fetched = time.perf_counter()
        device = worker_network.state["device"]
        kspace, mask = (batch[key].to(device, non_blocking=True) for key in ("masked_kspace", "mask"))
        # its own values are as good a target as any, and of the image's size
        worker_network.state.update(inputs=(kspace, mask), target=kspace[:, 0, ..., 0])
        worker_network.step()
        waits += fetched - start
        trains += time.perf_counter() - fetched
    return [waits / steps, trains / steps]


def _endless(loader: DataLoader) -> Iterator:
    while True:
        yield from loader


def _ours(folder: str) -> Dataset:
    from scripts.data import EquispacedFractionMask, SliceDataset, Undersample, inspect_volume

    volumes = [inspect_volume(path) for path in sorted(Path(folder).glob("*.h5"))]
    return SliceDataset(volumes, Undersample(EquispacedFractionMask(ACCELERATION, CENTER_FRACTION), seed=0))


def _fastmri(folder: str) -> Dataset:
    from fastmri.data import SliceDataset
    from fastmri.data.subsample import EquispacedMaskFractionFunc
    from fastmri.data.transforms import VarNetDataTransform

    mask = EquispacedMaskFractionFunc([CENTER_FRACTION], [ACCELERATION])
    return SliceDataset(folder, "multicoil", transform=VarNetDataTransform(mask))


class MonaiVolumes(Dataset):
    """MONAI's reader and mask transform, a whole volume at a time: its reader knows no slices."""

    def __init__(self, folder: str) -> None:
        from monai.apps.reconstruction.fastmri_reader import FastMRIReader
        from monai.apps.reconstruction.transforms.array import EquispacedKspaceMask

        self.files = sorted(Path(folder).glob("*.h5"))
        self.reader = FastMRIReader()
        self.mask = EquispacedKspaceMask(center_fractions=[CENTER_FRACTION], accelerations=[ACCELERATION])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        kspace, header = self.reader.get_data(self.reader.read(str(self.files[index])))
        return self.mask(kspace)[0], torch.as_tensor(header["reconstruction_rss"])


LOADERS = {"ours": _ours, "fastmri": _fastmri, "monai": MonaiVolumes}
READS = {
    "ours": lambda batch: (batch["masked_kspace"], batch["target"]),
    "fastmri": lambda batch: (batch.masked_kspace, batch.target),
    "monai": lambda batch: batch,
}
JOBS = {job.__name__: job for job in (open_data, epoch, write_slice, feed)}
