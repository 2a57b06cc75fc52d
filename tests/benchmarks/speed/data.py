"""From HDF5 to a batch, beside fastMRI's data set and MONAI's reader and mask."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

import h5py
import numpy as np
import torch

from scripts.data import write_volume
from scripts.data.header import make_header
from scripts.data.volumes import rss_image
from scripts.run.files import atomic_write
from tests.benchmarks.speed.network import CASES as NETWORKS
from tests.benchmarks.speed.network import write_case
from tests.benchmarks.speed.options import Options
from tests.benchmarks.speed.session import Worker, in_turns
from tests.benchmarks.speed.table import MISSING, Table, milliseconds, ratio

CASES = {  # volumes, slices, k-space (coils, height, width), image
    "demo": (12, 6, (6, 96, 96), (96, 96)),
    "published": (2, 8, (15, 640, 368), (320, 320)),
}
EPOCHS = 3
FEEDS = {  # training steps; workers of the loader
    "demo": (40, (0, 1, 2)),
    "published": (4, (2,)),
}


def write_volumes(folder: Path, name: str) -> Path:
    """Volumes of random numbers in fastMRI's format, written once; returns their folder."""
    volumes, slices, shape, image = CASES[name]
    folder = folder.absolute() / f"volumes_{name}"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(volumes):
        path = folder / f"volume_{number:02}.h5"
        if not path.exists():
            rng = np.random.default_rng(number)
            kspaces = (_complex(rng, shape) for _ in range(slices))
            contents = ((kspace, rss_image(kspace, image)) for kspace in kspaces)
            write_volume(
                path, contents, num_slices=slices, attributes={"acquisition": "T2"}, header=_header(shape, image)
            )
    return folder


def packed(folder: Path) -> Path:
    """A copy of a folder of volumes whose k-space is packed by gzip, slice by slice, made once; returns it."""
    target = folder.with_name(f"{folder.name}_gzip")
    target.mkdir(exist_ok=True)
    for path in sorted(folder.glob("*.h5")):
        if not (target / path.name).exists():
            with atomic_write(target / path.name) as temporary:
                _pack(path, temporary)
    return target


def _pack(path: Path, target: str) -> None:
    with h5py.File(path) as source, h5py.File(target, "w") as file:
        for name, content in source.items():
            packing = {"chunks": (1, *content.shape[1:]), "compression": "gzip"} if name == "kspace" else {}
            file.create_dataset(name, data=content[()], **packing)
        file.attrs.update(source.attrs)


def _complex(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Noise that falls off from the centre, as the k-space of a scan does."""
    rows, columns = (np.arange(size) - size // 2 for size in shape[1:])
    falloff = (1 / (1 + 0.01 * (rows[:, None] ** 2 + columns**2))).astype(np.float32)
    return rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0] * falloff


def _header(shape: tuple[int, int, int], image: tuple[int, int]) -> str:
    """Ours, with the limits that fastMRI's data set reads."""
    header = make_header(matrix=shape[1:], recon=image, spacing=(1.0, 1.0), slice_thickness=5.0, num_coils=shape[0])
    limits = f"<minimum>0</minimum><maximum>{shape[2] - 1}</maximum><center>{shape[2] // 2}</center>"
    step = f"<encodingLimits><kspace_encoding_step_1>{limits}</kspace_encoding_step_1></encodingLimits>"
    return header.replace("<trajectory>", step + "<trajectory>")


def forget_cached(folder: Path) -> None:
    """Drop the files of a folder from the system's page cache."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def assert_slice(found: dict, volume: Path) -> int:
    """Check that k-space is the file's in some columns and zero in the others; returns the number of columns.

    Raises:
        AssertionError: k-space or target is not the file's.
    """
    with h5py.File(volume) as file:
        kspace = torch.view_as_real(torch.from_numpy(file["kspace"][0]))
        target = torch.from_numpy(file["reconstruction_rss"][0])
    columns = (found["masked_kspace"] != 0).any(3).any(1).any(0)
    assert torch.equal(found["masked_kspace"], kspace * columns[:, None]), "k-space is not that of the file"
    assert torch.equal(found["target"], target), "the target is not that of the file"
    return int(columns.sum())


def data(options: Options) -> list[Table]:
    """Slices per second, memory over epochs, and how long a network waits for its data."""
    speed, memory, feeding = [], [], []
    for name in options.sizes:
        folder = write_volumes(options.folder, name)
        rows, peaks = _measure(name, folder, options)
        speed += rows
        memory += peaks
        feeding += _feed(name, folder, options)
    columns = ["size", "cache", "MONAI", "fastMRI", "ours", "ours / MONAI", "ours / fastMRI"]
    note = (
        "Slices per second, no worker processes. Masked k-space and target equal the file's for all three. MONAI's "
        "reader takes whole volumes and its mask transform also makes an image. Cold: the files were dropped from the "
        "system's cache."
    )
    epochs = [f"after epoch {epoch + 1} [MB]" for epoch in range(EPOCHS)]
    waits = ["size", "k-space", "workers", "waiting per step [ms]", "training step [ms]", "share of waiting"]
    return [
        Table("HDF5 to batch: slices per second", columns, speed, [note]),
        Table("HDF5 to batch: peak memory of the process", ["size", "", *epochs], memory),
        Table("Training fed by the loader", waits, feeding),
    ]


def _measure(name: str, folder: Path, options: Options) -> tuple[list[list[str]], list[list[str]]]:
    kinds = {"monai": "MONAI", **({"fastmri": "fastMRI"} if options.peer else {}), "ours": "ours"}
    rows, memory = [], []
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        measured = {}
        for kind in kinds:
            workers[kind] = stack.enter_context(options.worker(peer=kind == "fastmri"))
            workers[kind].ask("open_data", kind=kind, folder=str(folder))
            path = options.folder.absolute() / f"slice_{kind}.pt"
            workers[kind].ask("write_slice", path=str(path))
            measured[kind] = assert_slice(torch.load(path), folder / "volume_00.h5")
            path.unlink()
        spread = max(measured.values()) - min(measured.values())
        assert spread <= 2, f"masks of different rates: columns {measured}"
        for cache in ("warm", "cold"):
            epochs = {kind: partial(_epoch, worker, folder, cache) for kind, worker in workers.items()}
            rows.append([name, cache, *_speeds(in_turns(epochs, options.repeats))])
    for kind, title in kinds.items():
        with options.worker(peer=kind == "fastmri") as worker:
            worker.ask("open_data", kind=kind, folder=str(folder))
            peaks = [(worker.ask("epoch"), worker.ask("peak_memory"))[1] for _ in range(EPOCHS)]
            memory.append([name, title, *(f"{peak:.0f}" for peak in peaks)])
    return rows, memory


def _epoch(worker: Worker, folder: Path, cache: str) -> float:
    if cache == "cold":
        forget_cached(folder)
    return worker.ask("epoch")


def _speeds(times: dict[str, list[float]]) -> list[str]:
    order = ("monai", "fastmri", "ours")
    speeds = [f"{1 / median(times[kind]):.0f}" if kind in times else MISSING for kind in order]
    ratios = [ratio(times[kind], times["ours"]) if kind in times else MISSING for kind in order[:2]]
    return [*speeds, *ratios]


def _feed(name: str, folder: Path, options: Options) -> list[list[str]]:
    """How long a training step waits for its slice, from plain files and from packed ones."""
    arguments = NETWORKS[name][0]
    shape = CASES[name][2]
    case = write_case(options.folder / f"fed_{name}.pt", arguments, shape)
    steps, workers = FEEDS[name]
    rows = []
    for storage, files in (("plain", folder), ("gzip", packed(folder))):
        for count in workers:
            with options.worker() as worker:
                worker.ask("load_network", kind="ours", case=case, device=options.device)
                worker.ask("open_data", kind="ours", folder=str(files), num_workers=count)
                wait, train = worker.ask("feed", steps=steps)
            share = f"{wait / (wait + train):.1%}"
            rows.append([name, storage, str(count), milliseconds([wait]), milliseconds([train]), share])
    return rows
