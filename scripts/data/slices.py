"""Slices of volumes as a PyTorch data set, undersampled and batched for a reconstruction network."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from scripts.data.volumes import Volume, read_slice
from scripts.kspace.masks import ColumnMask
from scripts.run import report_reader


class SliceDataset(Dataset):
    """Every slice of some volumes, read lazily from HDF5.

    It counts what it opens and is known to the run that it belongs to: a record states what was read, not what was
    meant.

    An item holds ``kspace`` (C, H, W) complex64, ``target`` (1, h, w) float32, ``max_value`` () float32, ``slice``
    () int64, ``forget`` () bool, ``acquired`` (W,) bool, false where k-space is zero-filled, and, as text, ``file``,
    ``volume``, ``patient_id``, ``anatomy``; then ``transform`` is applied.

    Args:
        volumes: The volumes, in order.
        transform: mapping -> mapping, for example :class:`Undersample`.
        slices: Volume and number of each slice, where not all are meant.
        report: Whether what is opened counts as read by the run; false for what only looks at a network.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        transform: Callable[[dict], dict] | None = None,
        slices: Sequence[tuple[Volume, int]] | None = None,
        report: bool = True,
    ) -> None:
        self.volumes = list(volumes)
        self.transform = transform
        every = [(volume, index) for volume in self.volumes for index in range(volume.num_slices)]
        self.slices = every if slices is None else list(slices)
        self._opened: Counter[str] = Counter()
        if report:
            report_reader(self)

    def opened(self) -> Counter[str]:
        """Path of each file that was opened -> how many slices were read of it."""
        return self._opened

    def count(self, names: Iterable[str]) -> None:
        """Count slices of these volumes as opened; a loader does so for its worker processes."""
        paths = {volume.name: volume.path for volume in self.volumes}
        self._opened.update(paths[name] for name in names)

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, index: int) -> dict:
        volume, number = self.slices[index]
        self._opened[volume.path] += 1
        kspace, target = read_slice(volume, number)
        item = {
            "kspace": torch.from_numpy(kspace),
            "target": torch.from_numpy(target)[None],
            "max_value": torch.tensor(volume.max_value, dtype=torch.float32),
            "slice": torch.tensor(number),
            "forget": torch.tensor(volume.forget),
            "acquired": columns_between(volume.acquired, kspace.shape[-1]),
            "file": volume.path,
            "volume": volume.name,
            "patient_id": volume.patient_id,
            "anatomy": volume.fields.get("anatomy", ""),
        }
        return item if self.transform is None else self.transform(item)

    def pass_over(self, index: int) -> None:
        """Draw the random numbers of an item without reading it: another process reads it."""
        draw = getattr(self.transform, "draw", None)
        if draw is not None:
            draw(self.slices[index][0].path)


class Undersample:
    """Replace ``kspace`` by ``masked_kspace`` (C, H, W, 2) float32 and ``mask`` (1, 1, W, 1) bool.

    Multiplication only: no Fourier transform is needed to undersample. Columns that were not acquired (``acquired``)
    are never sampled, as in fastMRI.

    Args:
        mask: The pattern.
        seed: An integer fixes the mask of every file (evaluation), by the names of the file and of the folder that it
            lies in, wherever that folder and the datalist are; None draws afresh at every call from PyTorch's
            generator (training).
    """

    def __init__(self, mask: ColumnMask, seed: int | None = None) -> None:
        self.mask = mask
        self.seed = seed

    def __call__(self, item: Mapping) -> dict:
        item = dict(item)
        kspace = item.pop("kspace")
        columns = torch.from_numpy(self.mask(kspace.shape[-1], self.draw(item.pop("file")))) & item.pop("acquired")
        item["masked_kspace"] = torch.view_as_real(kspace * columns)
        item["mask"] = columns[None, None, :, None]
        return item

    def draw(self, file: str) -> int:
        """Seed of the next mask of a slice of this file."""
        if self.seed is None:
            return int(torch.randint(2**31, ()))
        name = "/".join(Path(os.path.abspath(file)).parts[-2:])
        return zlib.crc32(f"{self.seed}:{name}".encode())


def columns_between(bounds: tuple[int, int] | None, width: int) -> torch.Tensor:
    """(W,) bool, true from the first bound to before the second; all true without bounds.

    >>> columns_between((1, 3), 4)
    tensor([False,  True,  True, False])
    """
    first, last = bounds or (0, width)
    columns = torch.arange(width)
    return (columns >= first) & (columns < last)


def moved(batch: Mapping, device: torch.device | str | None, non_blocking: bool = True, **kwargs: Any) -> dict:
    """A batch with its tensors on a device; a copy from pinned memory goes on beside the work."""
    move = partial(torch.Tensor.to, device=device, non_blocking=non_blocking, **kwargs)
    return {key: move(value) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}


def prepare_batch(
    batch: Mapping, device: torch.device | str | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[torch.Tensor, dict, tuple, dict]:
    """Split a batch into the network's inputs and the label, for MONAI's trainers and evaluators.

    Returns:
        ``masked_kspace`` (B, C, H, W, 2); the label, a mapping of everything the losses and metrics read
        (``target`` (B, 1, h, w), ``max_value`` (B,), ``forget`` (B,), ``volume``, ``slice``, ...); positional
        arguments of the network: (``mask``,); keyword arguments: none.
    """
    rest = moved(batch, device, non_blocking, **kwargs)
    return rest.pop("masked_kspace"), rest, (rest.pop("mask"),), {}
