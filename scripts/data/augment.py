"""More slices from few: complex coil images turned, scaled, sheared, shifted and mirrored before undersampling."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.data.slices import Undersample
from scripts.kspace.fourier import center_crop, fft2c, ifft2c, rss
from scripts.run.kinds import NotNegative, check_arguments


class Augment:
    """A random affine map of the coil images, then :class:`Undersample`; the reference becomes their RSS.

    Object and coil sensitivities move together, so the result is the scan of an object that lay otherwise; noise is
    interpolated too. For multi-coil volumes whose reference is the RSS of the full k-space, and single-coil ones whose
    reference is its magnitude.

    Args:
        undersample: What follows.
        rotation: At most this angle, degrees, in either sense.
        scale: Natural logarithm of the largest factor of each axis.
        shear: At most this much of one axis along the other.
        shift: At most this share of half the field of view, along each axis.
        flips: Whether each axis is mirrored in half of the cases.

    Source: Fabian et al., Data Augmentation for Deep Learning Based Accelerated MRI Reconstruction with Limited Data,
    ICML 2021 (MRAugment).
    """

    def __init__(
        self,
        undersample: Undersample,
        rotation: NotNegative = 15.0,
        scale: NotNegative = 0.1,
        shear: NotNegative = 0.1,
        shift: NotNegative = 0.05,
        flips: bool = True,
    ) -> None:
        check_arguments(self, {"rotation": rotation, "scale": scale, "shear": shear, "shift": shift})
        self.undersample = undersample
        self.rotation = rotation
        self.scale = scale
        self.shear = shear
        self.shift = shift
        self.flips = flips

    def __call__(self, item: Mapping) -> dict:
        rng = np.random.default_rng(self._seed())
        images = affine(ifft2c(item["kspace"]), *self._map(rng))
        target = center_crop(rss(images[None]), item["target"].shape[-2:])
        return self.undersample({**item, "kspace": fft2c(images), "target": target})

    def draw(self, volume: str) -> int:
        """Draw the random numbers of a slice of this volume without making it."""
        self._seed()
        return self.undersample.draw(volume)

    def _seed(self) -> int:
        return int(torch.randint(2**31, ()))

    def _map(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """2 x 2 matrix in (row, column), and shift in shares of half the field of view."""
        angle = math.radians(self.rotation) * rng.uniform(-1, 1)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        factors = np.exp(self.scale * rng.uniform(-1, 1, 2)) * (rng.choice([-1, 1], 2) if self.flips else 1)
        stretch = np.array([[factors[0], self.shear * rng.uniform(-1, 1)], [0.0, factors[1]]])
        return turn @ stretch, self.shift * rng.uniform(-1, 1, 2)


def affine(images: Tensor, matrix: np.ndarray, shift: np.ndarray) -> Tensor:
    """Images at the places that an affine map gives, by bicubic interpolation; 0 outside of the field of view.

    Args:
        images: (C, H, W) complex.
        matrix: 2 x 2, from (row, column) about the centre of the result to that of ``images``, in pixels.
        shift: (row, column) added to it, in shares of half the field of view.

    Returns:
        (C, H, W) complex.

    Example:
        >>> images = torch.arange(3.0).reshape(1, 1, 3).to(torch.complex64)
        >>> affine(images, np.diag([1.0, -1.0]), np.zeros(2)).real
        tensor([[[2., 1., 0.]]])
    """
    coils, height, width = images.shape
    (rr, rc), (cr, cc) = matrix.tolist()
    # PyTorch wants (column, row), each in units of half its side
    theta = torch.tensor([[cc, cr * height / width, shift[1]], [rc * width / height, rr, shift[0]]])
    grid = F.affine_grid(theta[None].float(), [1, 2 * coils, height, width], align_corners=False)
    parts = torch.cat([images.real, images.imag])[None]
    parts = F.grid_sample(parts, grid.to(parts), mode="bicubic", padding_mode="zeros", align_corners=False)[0]
    return torch.complex(parts[:coils], parts[coils:])
