"""Multi-coil Cartesian acquisition of a magnitude image: coil maps, smooth phase, k-space, noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from scripts.data.volumes import rss_image

OBJECT_LEVEL = 0.1
"""A pixel belongs to the object when it exceeds this fraction of the image maximum."""


def fft2c(image: np.ndarray) -> np.ndarray:
    """Centred orthonormal 2-D FFT over the last two axes, fastMRI's convention. (..., H, W) -> (..., H, W)."""
    shifted = np.fft.ifftshift(image, axes=(-2, -1))
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(-2, -1))


def ifft2c(kspace: np.ndarray) -> np.ndarray:
    """Inverse of :func:`fft2c`. (..., H, W) -> (..., H, W)."""
    shifted = np.fft.ifftshift(kspace, axes=(-2, -1))
    return np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(-2, -1))


def crop_kspace(kspace: np.ndarray, matrix: Sequence[int]) -> np.ndarray:
    """The central ``matrix`` (H, W) of k-space (..., H', W'), at most its size; the origin stays at index n // 2."""
    (height, width), (rows, columns) = kspace.shape[-2:], matrix
    top, left = height // 2 - rows // 2, width // 2 - columns // 2
    return kspace[..., top : top + rows, left : left + columns]


def rss_target(kspace: np.ndarray) -> np.ndarray:
    """Root sum of squares (H, W) float32 of fully sampled k-space (C, H, W): the reference of a reconstruction."""
    return rss_image(kspace, kspace.shape[-2:])


def coordinates(shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Pixel-centre coordinates ``y`` (H, 1) and ``x`` (1, W) in [-1, 1], rows downwards."""
    height, width = shape
    y = (2 * np.arange(height) + 1) / height - 1
    x = (2 * np.arange(width) + 1) / width - 1
    return y[:, None], x[None, :]


def coil_maps(num_coils: int, shape: Sequence[int], rng: np.random.Generator, distance: float = 1.65) -> np.ndarray:
    """Smooth complex receive sensitivities of loops spread around the field of view, as in a birdcage.

    Each loop has a jittered angle, distance, size and phase; its field falls with the distance to it and its phase
    follows the direction from it. ``distance`` is the mean distance of the loops from the centre (1: the edge of
    the field of view); the nearer, the more local. Returns (C, H, W) complex64 with a root sum of squares of mean 1
    (not 1 everywhere: the middle is darker, as in an uncorrected image).
    """
    y, x = coordinates(shape)
    angles = 2 * np.pi * (np.arange(num_coils) + rng.uniform(-0.25, 0.25, num_coils)) / num_coils
    angles = angles + rng.uniform(0, 2 * np.pi)
    radius = distance * rng.uniform(0.9, 1.1, num_coils)
    size = distance * rng.uniform(0.42, 0.6, num_coils)
    offset = rng.uniform(0, 2 * np.pi, num_coils)
    maps = np.empty((num_coils, *shape), np.complex64)
    for coil in range(num_coils):
        away = (x + 1j * y) - radius[coil] * np.exp(1j * angles[coil])
        squared = np.abs(away) ** 2
        direction = away / np.sqrt(squared + 0.05)  # finite at the loop itself
        maps[coil] = size[coil] ** 2 / (size[coil] ** 2 + squared) * direction * np.exp(1j * offset[coil])
    rss = np.sqrt((np.abs(maps) ** 2).sum(axis=0))
    return maps / rss.mean()


def smooth_phase(shape: Sequence[int], rng: np.random.Generator, order: int = 3) -> np.ndarray:
    """Slowly varying object phase (field inhomogeneity, eddy currents) as a random polynomial.

    Returns (H, W) float32 in radians, standard deviation 1 over the field of view, around a random constant.
    """
    y, x = coordinates(shape)
    phase = np.zeros(tuple(shape))
    for i in range(order + 1):
        for j in range(order + 1 - i):
            if i + j:
                phase += rng.normal() / (i + j) * y**i * x**j
    phase = (phase - phase.mean()) / phase.std()
    return (phase + rng.uniform(-np.pi, np.pi)).astype(np.float32)


class Scan:
    """One scan: the receive coils, object phase, receiver gain and noise level that its slices share.

    The FFT is taken on the slice's own grid and k-space is cropped to ``matrix``, as a scanner band-limits a continuous
    object: a slice on a finer grid is not recovered by the inverse FFT.

    Gain and noise are set on a reference slice: the maximum of its noise-free root-sum-of-squares (RSS) image
    becomes ``peak``, and **SNR** is the mean of that RSS image over the object (pixels above ``OBJECT_LEVEL`` of
    the maximum) divided by the standard deviation of the noise in the real, and likewise in the imaginary, part
    of each coil image. Since the FFT is orthonormal, that is also the noise of each k-space sample.

    Args:
        reference: The reference slice, a magnitude image (H', W'); its grid is the grid of every slice.
        matrix: The size (H, W) of the k-space, at most (H', W').
        num_coils: The number of receive channels.
        snr: The signal-to-noise ratio as defined above.
        rng: The generator that draws coils and phase.
        peak: The maximum of the reference slice's noise-free RSS image; fastMRI's images have maxima of about 2e-4 to
            4e-4.
        coil_distance: The mean distance of the coils, see :func:`coil_maps`.

    Raises:
        ValueError: ``matrix``, ``num_coils`` or ``snr`` is impossible; the message names the setting.
    """

    def __init__(
        self,
        reference: np.ndarray,
        *,
        matrix: Sequence[int],
        num_coils: int,
        snr: float,
        rng: np.random.Generator,
        peak: float = 3e-4,
        coil_distance: float = 1.65,
    ) -> None:
        check_scan(matrix, reference.shape, num_coils, snr)
        self.matrix = tuple(matrix)
        self.field = coil_maps(num_coils, reference.shape, rng, coil_distance)
        self.field = (self.field * np.exp(1j * smooth_phase(reference.shape, rng))).astype(np.complex64)
        clean = rss_target(crop_kspace(fft2c(reference * self.field), self.matrix))
        maximum = float(clean.max())
        self.gain = peak / maximum if maximum > 0 else 1.0
        signal = float(clean[clean >= OBJECT_LEVEL * maximum].mean())
        self.noise_std = self.gain * signal / snr

    def acquire(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Noisy k-space (C, H, W) complex64 of a magnitude slice (H', W'); ``rng`` draws the noise."""
        kspace = self.gain * crop_kspace(fft2c(image * self.field), self.matrix)
        noise = rng.standard_normal((2, *kspace.shape), dtype=np.float32)
        return (kspace + self.noise_std * (noise[0] + 1j * noise[1])).astype(np.complex64)

    def acquire_all(
        self, images: Iterable[np.ndarray], rng: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Noisy k-space (C, H, W) complex64 of each magnitude slice (H', W'), and its RSS image (H, W) float32."""
        for image in images:
            kspace = self.acquire(image, rng)
            yield kspace, rss_target(kspace)


def check_scan(matrix: Sequence[int], grid: Sequence[int], num_coils: int, snr: float) -> None:
    """Raise ``ValueError`` naming the setting that no scan of a slice on ``grid`` (H', W') can have."""
    if len(matrix) != 2 or not all(0 < n <= limit for n, limit in zip(matrix, grid, strict=True)):
        raise ValueError(f"matrix: found {tuple(matrix)}, expected two numbers from 1 to {tuple(grid)}")
    if num_coils < 1:
        raise ValueError(f"num_coils: found {num_coils}, expected at least 1")
    if not (np.isfinite(snr) and snr > 0):
        raise ValueError(f"snr: found {snr}, expected a finite number above 0")
