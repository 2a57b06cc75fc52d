"""Null-space error: the part of an error that the measurement could not have corrected."""

from __future__ import annotations

import torch
from torch import Tensor

from scripts.fourier import center_crop, crop_like


def null_space_part(error: Tensor, mask: Tensor) -> Tensor:
    """Part of an error image whose k-space columns were not measured.

    The image is placed in the middle of the measured field of view, so that its columns are those of the mask.
    Networks here return magnitude images, so the error is that of the magnitude: an approximation to the
    null-space component of the complex coil images, for which no reference is stored.

    Args:
        error: reconstruction minus reference, (B, 1, h, w) real.
        mask: measured columns, (B, 1, 1, W, 1) bool, w <= W.

    Returns:
        (B, 1, h, w) float32: the same image without what lies in measured columns.

    Source: Bhadra et al., On Hallucinations in Tomographic Image Reconstruction, IEEE Trans. Med. Imaging 40
    (2021), eq. 12, for a Cartesian mask that varies along W alone.

    >>> error = torch.ones(1, 1, 4, 4)  # lies in the central column alone
    >>> centre = torch.tensor([False, False, True, False]).reshape(1, 1, 1, 4, 1)
    >>> float(null_space_part(error, centre).abs().max())
    0.0
    """
    height, width = error.shape[-2:]
    full = mask.shape[-2]
    if width > full:
        raise ValueError(f"null space: expected an image of at most {full} columns, found {width}")
    left = (full - width) // 2
    padded = torch.nn.functional.pad(error.float(), (left, full - width - left))
    measured = torch.fft.ifftshift(mask[..., 0], dim=[-1])  # rows of the image need no shift: it only turns phases
    part = torch.fft.ifft(torch.fft.fft(padded) * ~measured).real
    return center_crop(part, (height, width))


def null_space_error(target: Tensor, prediction: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Squared sums of each slice, to be added over a volume and divided.

    Args:
        target: (B, 1, h, w) real.
        prediction: (B, 1, H, W) real, centre-cropped to the target.
        mask: measured columns, (B, 1, 1, W, 1) bool.

    Returns:
        ``null``: ‖null-space part of the error‖², ``error``: ‖error‖², ``target``: ‖target‖², each (B,) float64.
        ``null / target`` is the null-space NMSE, ``null / error`` its share.
    """
    error = crop_like(prediction, target) - target
    parts = {"null": null_space_part(error, mask), "error": error, "target": target}
    return {name: part.double().square().flatten(1).sum(1) for name, part in parts.items()}
