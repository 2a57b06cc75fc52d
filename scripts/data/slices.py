"""Slices of volumes as a PyTorch data set, undersampled and batched for a reconstruction network."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch.utils.data import Dataset

from scripts.data.masks import ColumnMask
from scripts.data.volumes import Volume, read_slice


class SliceDataset(Dataset):
    """Every slice of some volumes, read lazily from HDF5.

    An item holds ``kspace`` (C, H, W) complex64, ``target`` (1, h, w) float32, ``max_value`` () float32, ``slice``
    () int64, ``forget`` () bool and, as text, ``volume``, ``patient_id``, ``anatomy``; then ``transform`` is applied.

    Args:
        volumes: the volumes, in order.
        transform: mapping -> mapping, for example :class:`Undersample`.
    """

    def __init__(self, volumes: Sequence[Volume], transform: Callable[[dict], dict] | None = None) -> None:
        self.volumes = list(volumes)
        self.transform = transform
        self.slices = [(volume, index) for volume in self.volumes for index in range(volume.num_slices)]

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, index: int) -> dict:
        volume, number = self.slices[index]
        kspace, target = read_slice(volume, number)
        item = {
            "kspace": torch.from_numpy(kspace),
            "target": torch.from_numpy(target)[None],
            "max_value": torch.tensor(volume.max_value, dtype=torch.float32),
            "slice": torch.tensor(number),
            "forget": torch.tensor(volume.forget),
            "volume": volume.name,
            "patient_id": volume.patient_id,
            "anatomy": volume.fields.get("anatomy", ""),
        }
        return item if self.transform is None else self.transform(item)

    def pass_over(self, index: int) -> None:
        """Draw the random numbers of an item without reading it: another process reads it."""
        if hasattr(self.transform, "draw"):
            self.transform.draw(self.slices[index][0].name)


class Undersample:
    """Replace ``kspace`` by ``masked_kspace`` (C, H, W, 2) float32 and ``mask`` (1, 1, W, 1) bool.

    Multiplication only: no Fourier transform is needed to undersample.

    Args:
        mask: the pattern.
        seed: an integer fixes the mask of every file (evaluation); None draws afresh at every call from
            PyTorch's generator (training).
    """

    def __init__(self, mask: ColumnMask, seed: int | None = None) -> None:
        self.mask = mask
        self.seed = seed

    def __call__(self, item: Mapping) -> dict:
        item = dict(item)
        kspace = item.pop("kspace")
        columns = torch.from_numpy(self.mask(kspace.shape[-1], self.draw(item["volume"])))
        item["masked_kspace"] = torch.view_as_real(kspace * columns)
        item["mask"] = columns[None, None, :, None]
        return item

    def draw(self, volume: str) -> int:
        """Seed of the next mask of a slice of this volume."""
        if self.seed is None:
            return int(torch.randint(2**31, ()))
        return zlib.crc32(f"{self.seed}:{volume}".encode())


def prepare_batch(
    batch: Mapping, device: torch.device | str | None = None, non_blocking: bool = False, **kwargs
) -> tuple[torch.Tensor, dict, tuple, dict]:
    """Split a batch into the network's inputs and the label, for MONAI's trainers and evaluators.

    Returns:
        ``masked_kspace`` (B, C, H, W, 2); the label, a mapping of everything the losses and metrics read
        (``target`` (B, 1, h, w), ``max_value`` (B,), ``forget`` (B,), ``volume``, ``slice``, ...); positional
        arguments of the network: (``mask``,); keyword arguments: none.
    """
    moved = {
        key: value.to(device, non_blocking=non_blocking, **kwargs) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }
    return moved.pop("masked_kspace"), moved, (moved.pop("mask"),), {}
