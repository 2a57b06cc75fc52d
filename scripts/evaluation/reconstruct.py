"""The one loop that reconstructs slices with several models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scripts.data.slices import SliceDataset, prepare_batch
from scripts.data.volumes import Volume
from scripts.evaluation.results import VolumeResult
from scripts.evaluation.volume_metrics import VolumeMetrics
from scripts.kspace.fourier import crop_like

Models = Mapping[str, torch.nn.Module]


@dataclass(frozen=True)
class SliceImages:
    """One slice and what each model makes of it."""

    label: Mapping[str, Any]  # of the data set, with target (1, 1, h, w), max_value (1,) and volume
    mask: Tensor  # measured columns, (1, 1, 1, W, 1) bool
    images: Mapping[str, Tensor]  # model -> reconstruction, cropped to the target, (1, 1, h, w) float32


@dataclass(frozen=True)
class Scan:
    """Chosen slices of a volume and what each model makes of them."""

    cohort: str  # BTA, KTA or UA
    volume: Volume
    slices: Sequence[int]  # their numbers
    masks: np.ndarray  # measured columns, (S, W) bool
    target: np.ndarray  # reference images, (S, h, w) float32
    images: Mapping[str, np.ndarray]  # model -> reconstructions, (S, h, w) float32


@torch.no_grad()
def each_slice(
    models: Models,
    slices: Sequence[tuple[Volume, int]],
    transform: Callable[[dict], dict],
    device: torch.device | str = "cpu",
    report: bool = True,
) -> Iterator[SliceImages]:
    """Reconstruct slices, one after the other, with every model.

    Args:
        models: name -> network; they are moved to the device and set to evaluation.
        slices: Volume and number of each slice.
        transform: Undersamples a slice, see :class:`scripts.data.Undersample`.
        device: Where to run the networks.
        report: Whether what is opened counts as read by the run.
    """
    ready = {name: network.to(device).eval() for name, network in models.items()}
    dataset = SliceDataset([], transform, slices, report)
    for index in range(len(dataset)):
        inputs, label, args, _ = prepare_batch(torch.utils.data.default_collate([dataset[index]]), device)
        images = {name: crop_like(network(inputs, *args), label["target"]).float() for name, network in ready.items()}
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


def measure_models(
    models: Models,
    cohorts: Mapping[str, Sequence[tuple[Volume, int]]],
    transform: Callable[[dict], dict],
    device: torch.device | str = "cpu",
    report: bool = True,
) -> list[VolumeResult]:
    """PSNR, SSIM and NMSE of every model on chosen slices of each cohort, of each volume over its chosen slices.

    Arguments as in :func:`each_slice`.
    """
    results = []
    for cohort, slices in cohorts.items():
        metrics = {name: VolumeMetrics() for name in models}
        for one in each_slice(models, slices, transform, device, report):
            for name, metric in metrics.items():
                metric.update((one.images[name], one.label))
        for name, metric in metrics.items():
            results += [VolumeResult(name, cohort, v, **asdict(values)) for v, values in metric.compute().items()]
    return results


def spread(volumes: Sequence[Volume], limit: int) -> list[tuple[Volume, int]]:
    """At most ``limit`` slices, as equally many of each volume as can be, from the middle outwards.

    Where there are more volumes than slices, the volumes are evenly spaced in their list.

    >>> volume = type("Volume", (), {"num_slices": 3})()
    >>> [number for _, number in spread([volume], limit=2)]
    [1, 0]
    """
    if len(volumes) > limit:
        volumes = [volumes[index * len(volumes) // limit] for index in range(limit)]
    orders = [middle_first(v.num_slices) for v in volumes]
    turns = range(max(map(len, orders), default=0))
    ranked = [(v, order[turn]) for turn in turns for v, order in zip(volumes, orders, strict=True) if turn < len(order)]
    return ranked[:limit]


def middle_first(count: int) -> list[int]:
    """The numbers of so many slices, from the middle outwards."""
    return sorted(range(count), key=lambda index: abs(index - count // 2))
