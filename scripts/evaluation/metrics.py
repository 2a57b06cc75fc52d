"""fastMRI's figures of merit for a volume of magnitude images: PSNR, SSIM and NMSE.

Each slice is reduced to a `SliceSums` and the slices of a volume are combined, so that an evaluation never
holds a volume and the order of its slices does not change a single bit of the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scripts.kspace.ssim import ssim_map

METRICS = ("psnr", "ssim", "nmse")


@dataclass(frozen=True)
class SliceSums:
    """What one slice adds to its volume: sums over pixels, its mean SSIM and the maximum of the volume."""

    squared_error: float
    squared_target: float
    count: int
    ssim: float
    max_value: float


def psnr(target: Tensor | np.ndarray, prediction: Tensor | np.ndarray, max_value: float | None = None) -> float:
    """Peak signal-to-noise ratio of a volume in dB: 10 log10(max² / MSE), the MSE over all its pixels.

    Args:
        target: Magnitude images, (S, h, w), real.
        prediction: The same shape.
        max_value: The peak, in the images' units; None takes the maximum of the target.

    Returns:
        PSNR in dB; infinite for an exact prediction.

    Raises:
        ValueError: NaN or Inf, differing shapes, or a peak that is not positive.

    Source: Zbontar et al., fastMRI (2018), arXiv 1811.08839.

    Example:
        >>> round(psnr(np.ones((1, 8, 8)), np.full((1, 8, 8), 0.9)), 6)
        20.0
    """
    target, prediction = _checked(target, prediction)
    peak = _peaks(target, max_value)[0].item()
    return _psnr((target - prediction).square().mean().item(), peak)


def nmse(target: Tensor | np.ndarray, prediction: Tensor | np.ndarray) -> float:
    """Normalised mean squared error of a volume: ||x - y||² / ||x||², a fraction.

    Args:
        target: Magnitude images, (S, h, w), real.
        prediction: The same shape.

    Raises:
        ValueError: NaN or Inf, differing shapes, or a target that is zero throughout.

    Source: Zbontar et al., fastMRI (2018), arXiv 1811.08839.

    Example:
        >>> round(nmse(np.ones((1, 8, 8)), np.full((1, 8, 8), 0.9)), 6)
        0.01
    """
    target, prediction = _checked(target, prediction)
    return _nmse((target - prediction).square().sum().item(), target.square().sum().item())


def ssim(target: Tensor | np.ndarray, prediction: Tensor | np.ndarray, max_value: float | None = None) -> float:
    """Structural similarity of a volume: the mean over its slices of each slice's mean SSIM.

    The window is 7x7 and uniform, the covariance unbiased.

    Args:
        target: Magnitude images, (S, h, w), real.
        prediction: The same shape.
        max_value: The data range, in the images' units; None takes the maximum of the target.

    Raises:
        ValueError: NaN or Inf, differing shapes, a data range that is not positive, or slices smaller than
            the window.

    Source: Wang et al. 2004; Zbontar et al., fastMRI (2018), arXiv 1811.08839.

    Example:
        >>> ssim(np.eye(8)[None], np.eye(8)[None])
        1.0
    """
    target, prediction = _checked(target, prediction)
    return _ssim_of_slices(target, prediction, _peaks(target, max_value)).mean().item()


def slice_sums(
    target: Tensor | np.ndarray, prediction: Tensor | np.ndarray, max_value: float | Tensor
) -> list[SliceSums]:
    """Reduce slices, of one volume or of several, to what `combine` needs; computed in float64 where the images are.

    Args:
        target: Magnitude images, (S, h, w), real.
        prediction: The same shape.
        max_value: The maximum of each slice's volume, one number or (S,).

    Returns:
        The sums of the S slices, in order.

    Raises:
        ValueError: as `psnr` and `ssim` do.
    """
    target, prediction = _in_double(target, prediction)
    peaks = torch.as_tensor(max_value, device=target.device).detach().double().expand(len(target))
    images = {"target": target, "prediction": prediction}
    columns = [  # all are read at once: each look at a GPU waits for it
        *((~image.isfinite()).sum(dim=(1, 2)) for image in images.values()),
        peaks,
        (target - prediction).square().sum(dim=(1, 2)),
        target.square().sum(dim=(1, 2)),
        _ssim_of_slices(target, prediction, peaks),
    ]
    bad_target, bad_prediction, *rows = torch.stack([column.double() for column in columns]).tolist()
    _expect_finite({"target": sum(bad_target), "prediction": sum(bad_prediction)}, target.numel())
    _expect_peaks(rows[0])
    count = target[0].numel()
    return [SliceSums(e, t, count, similarity, peak) for peak, e, t, similarity in zip(*rows, strict=True)]


def combine(sums: Iterable[SliceSums]) -> dict[str, float]:
    """PSNR (dB), SSIM and NMSE of one volume from the sums of its slices, in any order.

    Raises:
        ValueError: there is no slice, the slices disagree about the volume's maximum, or the target is zero
            throughout.

    Example:
        >>> target, prediction = np.ones((2, 8, 8)), np.full((2, 8, 8), 0.9)
        >>> volume = combine(slice_sums(target, prediction, max_value=1.0))
        >>> {name: round(value, 4) for name, value in volume.items()}
        {'psnr': 20.0, 'ssim': 0.9945, 'nmse': 0.01}
    """
    sums = list(sums)
    if not sums:
        raise ValueError("a volume needs at least one slice, got none")
    peaks = {s.max_value for s in sums}
    if len(peaks) > 1:
        raise ValueError(f"the slices of a volume must share one max_value, got {sorted(peaks)}")
    error = math.fsum(s.squared_error for s in sums)
    return {
        "psnr": _psnr(error / sum(s.count for s in sums), peaks.pop()),
        "ssim": math.fsum(s.ssim for s in sums) / len(sums),
        "nmse": _nmse(error, math.fsum(s.squared_target for s in sums)),
    }


def _psnr(mean_squared_error: float, peak: float) -> float:
    return 10 * math.log10(peak**2 / mean_squared_error) if mean_squared_error > 0 else math.inf


def _nmse(squared_error: float, squared_target: float) -> float:
    if squared_target == 0:
        raise ValueError("NMSE is undefined: the target is zero throughout")
    return squared_error / squared_target


def _ssim_of_slices(target: Tensor, prediction: Tensor, peaks: Tensor) -> Tensor:
    return ssim_map(target[:, None], prediction[:, None], peaks).mean(dim=(1, 2, 3))


def _in_double(target: Tensor | np.ndarray, prediction: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
    """Both as (S, h, w) float64 of one shape, where they are; Apple's GPUs have no float64, there on the CPU."""
    volumes = {"target": torch.as_tensor(target), "prediction": torch.as_tensor(prediction)}
    shapes = {name: tuple(volume.shape) for name, volume in volumes.items()}
    if shapes["target"] != shapes["prediction"] or len(shapes["target"]) != 3 or 0 in shapes["target"]:
        raise ValueError(f"target and prediction must both be (slices, h, w) and not empty, got {shapes}")
    for name, volume in volumes.items():
        if volume.is_complex():
            raise ValueError(f"the {name} must be a magnitude image, got {volume.dtype}")
        volumes[name] = (volume.cpu() if volume.device.type == "mps" else volume).detach().double()
    return volumes["target"], volumes["prediction"]


def _checked(target: Tensor | np.ndarray, prediction: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
    """Both as (S, h, w) float64, of one shape, without NaN or Inf."""
    target, prediction = _in_double(target, prediction)
    bad = {"target": target, "prediction": prediction}
    _expect_finite({name: int((~volume.isfinite()).sum()) for name, volume in bad.items()}, target.numel())
    return target, prediction


def _expect_finite(bad: Mapping[str, float], count: int) -> None:
    for name, number in bad.items():
        if number:
            raise ValueError(f"the {name} has NaN or Inf in {number:.0f} of {count} pixels")


def _peaks(target: Tensor, max_value: float | Tensor | None) -> Tensor:
    """The volume's maximum for every slice, (S,) float64, checked to be positive and finite."""
    peaks = torch.as_tensor(target.max() if max_value is None else max_value, device=target.device).detach().double()
    _expect_peaks(peaks.reshape(-1).tolist())
    return peaks.expand(len(target))


def _expect_peaks(peaks: Sequence[float]) -> None:
    if not all(0 < peak < math.inf for peak in peaks):
        raise ValueError(f"max_value must be positive and finite, got {peaks}")
