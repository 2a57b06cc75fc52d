"""The one loop that reconstructs slices with several models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scripts.data.slices import SliceDataset, prepare_batch
from scripts.data.volumes import Volume
from scripts.fourier import center_crop

Models = Mapping[str, torch.nn.Module]


@dataclass(frozen=True)
class SliceImages:
    """One slice and what each model makes of it.

    Attributes:
        label: What the data set says of the slice, with ``target`` (1, 1, h, w), ``max_value`` (1,) and ``volume``.
        mask: Measured columns, (1, 1, 1, W, 1) bool.
        images: model -> reconstruction, cropped to the target, (1, 1, h, w) float32.
    """

    label: Mapping[str, Any]
    mask: Tensor
    images: Mapping[str, Tensor]


@dataclass(frozen=True)
class Scan:
    """Slices of a volume and what each model makes of them.

    Attributes:
        cohort: BTA, KTA or UA.
        volume: The volume.
        slices: Numbers of the chosen slices.
        masks: Measured columns, (S, W) bool.
        target: Reference images, (S, h, w) float32.
        images: model -> reconstructions, (S, h, w) float32.
    """

    cohort: str
    volume: Volume
    slices: Sequence[int]
    masks: np.ndarray
    target: np.ndarray
    images: Mapping[str, np.ndarray]


@torch.no_grad()
def each_slice(
    models: Models,
    slices: Sequence[tuple[Volume, int]],
    transform: Callable[[dict], dict],
    device: torch.device | str = "cpu",
) -> Iterator[SliceImages]:
    """Reconstruct slices, one after the other, with every model.

    Args:
        models: name -> network; they are moved to the device and set to evaluation.
        slices: Volume and number of each slice.
        transform: Undersamples a slice, see :class:`scripts.data.Undersample`.
        device: Where to run the networks.
    """
    ready = {name: network.to(device).eval() for name, network in models.items()}
    dataset = SliceDataset([], transform)
    dataset.slices = list(slices)
    for index in range(len(dataset)):
        inputs, label, args, _ = prepare_batch(torch.utils.data.default_collate([dataset[index]]), device)
        size = label["target"].shape[-2:]
        images = {name: center_crop(network(inputs, *args), size).float() for name, network in ready.items()}
        yield SliceImages(label, args[0], images)


def reconstruct(
    models: Models,
    cohort: str,
    volume: Volume,
    slices: Sequence[int],
    transform: Callable[[dict], dict],
    device: torch.device | str = "cpu",
) -> Scan:
    """Reconstruct chosen slices of a volume with every model; arguments as in :func:`each_slice`."""
    found = list(each_slice(models, [(volume, index) for index in slices], transform, device))
    return Scan(
        cohort,
        volume,
        tuple(slices),
        np.stack([one.mask.flatten().cpu().numpy() for one in found]),
        np.stack([one.label["target"][0, 0].cpu().numpy() for one in found]),
        {name: np.stack([one.images[name][0, 0].cpu().numpy() for one in found]) for name in models},
    )
