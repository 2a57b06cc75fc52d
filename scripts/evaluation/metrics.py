"""fastMRI's figures of merit for a volume of magnitude images: PSNR, SSIM and NMSE.

Each slice is reduced to a :class:`SliceSums` and the slices of a volume are combined, so that an evaluation never holds
a volume and the order of its slices does not change a single bit of the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

METRICS = ("psnr", "ssim", "nmse")
WINDOW = 7  # of the SSIM, in pixels


@dataclass(frozen=True)
class SliceSums:
    """What one slice adds to its volume: sums over pixels, its mean SSIM and the maximum of the volume."""

    squared_error: float
    squared_target: float
    count: int
    ssim: float
    max_value: float


def slice_sums(
    target: Tensor | np.ndarray, prediction: Tensor | np.ndarray, max_value: float | Tensor
) -> list[SliceSums]:
    """Reduce slices, of one volume or of several, to what :func:`combine` needs; computed in float64 on the CPU.

    SSIM is scikit-image's, with a uniform window of 7x7 and the unbiased covariance.

    Args:
        target: Magnitude images, (S, h, w), real.
        prediction: The same shape.
        max_value: The maximum of each slice's volume in the images' units, one number or (S,).

    Returns:
        The sums of the S slices, in order.

    Raises:
        ValueError: NaN or Inf, differing shapes, slices smaller than the window, or a maximum that is not positive.

    Source: Wang et al. 2004; Zbontar et al., fastMRI (2018), arXiv 1811.08839.
    """
    images = {"target": _as_array(target), "prediction": _as_array(prediction)}
    shapes = {name: image.shape for name, image in images.items()}
    if len(set(shapes.values())) > 1 or len(shapes["target"]) != 3 or 0 in shapes["target"]:
        raise ValueError(f"target and prediction must both be (slices, h, w) and not empty, got {shapes}")
    for name, image in images.items():
        if bad := int((~np.isfinite(image)).sum()):
            raise ValueError(f"the {name} has NaN or Inf in {bad} of {image.size} pixels")
    peaks = np.broadcast_to(_as_array(max_value).astype(np.float64), len(images["target"])).tolist()
    if not all(0 < peak < math.inf for peak in peaks):
        raise ValueError(f"max_value must be positive and finite, got {peaks}")
    pairs = zip(*(image.astype(np.float64) for image in images.values()), peaks, strict=True)
    return [
        SliceSums(
            squared_error=float(np.square(x - y).sum()),
            squared_target=float(np.square(x).sum()),
            count=x.size,
            ssim=float(structural_similarity(x, y, win_size=WINDOW, data_range=peak)),
            max_value=peak,
        )
        for x, y, peak in pairs
    ]


def combine(sums: Iterable[SliceSums]) -> dict[str, float]:
    """PSNR, SSIM and NMSE of one volume from the sums of its slices, in any order.

    PSNR is 10·log10(max² / MSE) in dB over all pixels of the volume, infinite for an exact prediction; SSIM the mean
    over slices of each slice's mean; NMSE ‖x − y‖² / ‖x‖², a fraction.

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
    error, energy = (math.fsum(getattr(s, name) for s in sums) for name in ("squared_error", "squared_target"))
    if energy == 0:
        raise ValueError("NMSE is undefined: the target is zero throughout")
    mean = error / sum(s.count for s in sums)
    return {
        "psnr": 10 * math.log10(peaks.pop() ** 2 / mean) if mean > 0 else math.inf,
        "ssim": math.fsum(s.ssim for s in sums) / len(sums),
        "nmse": error / energy,
    }


def _as_array(value: Tensor | np.ndarray | float) -> np.ndarray:
    if not isinstance(value, Tensor):
        return np.asarray(value)
    value = value.detach().cpu()
    return (value.float() if value.dtype is torch.bfloat16 else value).numpy()  # NumPy has no bfloat16
