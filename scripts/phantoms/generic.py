"""Generic scans that are nobody's data: dead leaves, folded layers and 1/f textures seen by random coils."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from scripts.phantoms.acquisition import coil_maps, coordinates, crop_kspace, fft2c, ifft2c, rss_target, smooth_phase

FINENESS = 2
"""An object is drawn on a grid so many times as fine as the matrix, so that its edges are partial volumes."""
SMALLEST, LARGEST = (0.025, 0.12), 0.7
"""The range of an object's smallest leaf, log-uniform, and the largest radius, in halves of the field of view."""
LEAVES = 60, 400
"""The fewest and the most leaves of an object; log-uniform."""
BARE, RIMMED, FOLDED, TEXTURED, SHADED = 0.15, 0.5, 0.4, 0.7, 0.6
"""The shares of objects without an outline, of outlines with rims, and of objects with folds, texture, shading."""
STRIPED, SPECKLED, THIN = 0.15, 0.15, 0.15
"""The shares of leaves with stripes, with a texture of their own, and of thin ones."""
POWERS = 1.0, 2.0, 2.0, 2.0, 6.0, 10.0
"""The exponents of the leaves' superellipses: 1 is a diamond, 2 an ellipse, 10 nearly a box."""
PHASE = 0.0, 1.5
"""The standard deviation of the object's smooth phase, in radians."""
NOISE = 0.001, 0.05
"""The standard deviation of the noise, in shares of the image's maximum; log-uniform."""
PEAK = 2e-4, 4e-4
"""The maximum of the noise-free image; fastMRI's images have such maxima."""
COIL_DISTANCE = 1.1, 2.5
"""The mean distance of loops from the centre, see :func:`scripts.phantoms.acquisition.coil_maps`."""
COIL_WIDTH = 0.5, 1.5
"""The standard deviation of a Gaussian sensitivity, in halves of the field of view."""


class GenericSlices(Dataset):
    """Slices of generic scans, drawn when they are read, with the items of :class:`scripts.data.SliceDataset`.

    Item i before ``transform`` follows from the settings, the seed and i alone, in any order and in any process, so
    nothing is stored. A training that is to see no image twice takes as many slices as it has steps.

    Args:
        length: The number of slices, at least 1.
        matrix: The size (H, W) of the k-space, each at least 8. The image is not cropped.
        num_coils: The smallest and the largest number of receive channels, or one number; each slice draws its own.
            A batch of several slices needs one number.
        seed: The seed of everything that is drawn but the masks, at least 0.
        noise: The range of the noise's standard deviation in the real, and likewise in the imaginary, part of each coil
            image, in shares of the maximum of the noise-free root-sum-of-squares image; log-uniform, in (0, 1].
        peak: The range of that maximum, above 0.
        transform: mapping -> mapping, for example :class:`scripts.data.Undersample`.

    Raises:
        ValueError: A setting is out of range; the message names it.

    Example:
        >>> item = GenericSlices(10, matrix=(32, 24), num_coils=(2, 4), seed=1)[7]
        >>> item["kspace"].shape[1:], item["target"].shape, item["file"]
        (torch.Size([32, 24]), torch.Size([1, 32, 24]), 'generic/1-7')
    """

    def __init__(
        self,
        length: int,
        matrix: Sequence[int],
        num_coils: int | Sequence[int] = (4, 8),
        seed: int = 0,
        noise: Sequence[float] = NOISE,
        peak: Sequence[float] = PEAK,
        transform: Callable[[dict], dict] | None = None,
    ) -> None:
        self.matrix = (int(matrix[0]), int(matrix[1])) if len(matrix) == 2 else tuple(matrix)
        self.num_coils = (num_coils, num_coils) if isinstance(num_coils, int) else tuple(num_coils)
        self.length, self.seed, self.noise, self.peak = length, seed, tuple(noise), tuple(peak)
        self.transform = transform
        if length < 1:
            raise ValueError(f"generic slices: 'length': expected at least 1, found {length}")
        if len(self.matrix) != 2 or min(self.matrix) < 8:
            raise ValueError(f"generic slices: 'matrix': expected two numbers from 8, found {self.matrix}")
        if seed < 0:
            raise ValueError(f"generic slices: 'seed': expected at least 0, found {seed}")
        ranges = {
            "num_coils": (self.num_coils, 1, 1024),
            "noise": (self.noise, 1e-9, 1),
            "peak": (self.peak, 1e-30, 1e30),
        }
        for name, (found, lowest, highest) in ranges.items():
            if len(found) != 2 or not lowest <= found[0] <= found[1] <= highest:
                raise ValueError(
                    f"generic slices: '{name}': expected [lowest, highest] from {lowest} to {highest}, found {found}"
                )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < self.length:
            raise IndexError(f"generic slices: expected an index below {self.length}, found {index}")
        rng = np.random.default_rng((self.seed, index))
        coils = int(rng.integers(self.num_coils[0], self.num_coils[1] + 1))
        kspace = generic_kspace(self.matrix, coils, rng, self.noise, self.peak)
        target = torch.from_numpy(rss_target(kspace))[None]
        name = self._name(index)
        item = {
            "kspace": torch.from_numpy(kspace),
            "target": target,
            "max_value": target.max(),
            "slice": torch.tensor(0),
            "forget": torch.tensor(False),
            "acquired": torch.ones(self.matrix[1], dtype=torch.bool),
            "file": name,
            "volume": name,
            "patient_id": "",
            "anatomy": "generic",
        }
        return item if self.transform is None else self.transform(item)

    def pass_over(self, index: int) -> None:
        """Draw the random numbers of the transform without making the slice: another process makes it."""
        draw = getattr(self.transform, "draw", None)
        if draw is not None:
            draw(self._name(index))

    def _name(self, index: int) -> str:
        return f"generic/{self.seed}-{index}"


def generic_kspace(
    matrix: Sequence[int],
    num_coils: int,
    rng: np.random.Generator,
    noise: Sequence[float] = NOISE,
    peak: Sequence[float] = PEAK,
) -> np.ndarray:
    """Noisy k-space (C, H, W) complex64 of a new object; see :class:`GenericSlices` for the ranges."""
    image = generic_image([FINENESS * n for n in matrix], rng)
    seen = ifft2c(crop_kspace(fft2c(image), matrix))  # phase and sensitivities are smooth: the matrix is fine enough
    seen = seen * np.exp(1j * rng.uniform(*PHASE) * smooth_phase(matrix, rng))
    kspace = fft2c(seen * random_coils(num_coils, matrix, rng)).astype(np.complex64)
    gain, level = rng.uniform(*peak), np.exp(rng.uniform(*np.log(noise)))
    kspace *= np.float32(gain / max(float(rss_target(kspace).max()), 1e-12))
    parts = rng.standard_normal((2, *kspace.shape), dtype=np.float32)
    kspace += np.float32(gain * level) * (parts[0] + 1j * parts[1])
    return kspace


def random_coils(num_coils: int, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Receive sensitivities (C, H, W) complex64 of one of three models: loops, Gaussians, low-order polynomials."""
    model = rng.integers(3)
    if model == 0:
        return coil_maps(num_coils, shape, rng, distance=rng.uniform(*COIL_DISTANCE))
    y, x = coordinates(shape)
    maps = np.empty((num_coils, *shape), np.complex64)
    turn = 2 * np.pi * (np.arange(num_coils) / num_coils + rng.uniform() + rng.normal(0, 0.2, num_coils) / num_coils)
    width, reach = rng.uniform(*COIL_WIDTH), rng.uniform(0.7, 1.3)
    for coil, angle in enumerate(turn):
        ramp = np.exp(1j * (rng.uniform(-np.pi, np.pi) + rng.normal(0, 0.7) * x + rng.normal(0, 0.7) * y))
        if model == 1:
            away = (y - reach * np.sin(angle)) ** 2 + (x - reach * np.cos(angle)) ** 2
            maps[coil] = np.exp(-away / (2 * width**2)) * ramp
        else:
            slopes = rng.normal(0, 0.5, (2, 5))
            parts = [s[0] + s[1] * y + s[2] * x + s[3] * x * y + s[4] * (x**2 - y**2) for s in slopes]
            maps[coil] = (1 + parts[0] + 1j * parts[1]) * ramp
    return maps


def generic_image(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """A magnitude image (H, W) float32, from 0 to 1: leaves and folds within an outline, textured and shaded."""
    greys = _greys(rng)
    image = np.full(shape, greys(1)[0], np.float32)
    if rng.uniform() < FOLDED:
        image = _folds(shape, greys, rng)
    count = int(np.exp(rng.uniform(*np.log(LEAVES))))
    radii = leaf_radii(count, (np.exp(rng.uniform(*np.log(SMALLEST))), LARGEST), rng)
    if rng.uniform() < 0.5:
        radii = np.sort(radii)[::-1]  # small structures lie on large ones, as in a body
    for radius, grey in zip(radii, greys(count), strict=True):
        _paint_leaf(image, radius, grey, rng)
    if rng.uniform() < TEXTURED:
        image *= 1 + rng.uniform(0.02, 0.2) * power_law_field(shape, rng.uniform(0.5, 1.5), rng)
    if rng.uniform() > BARE:
        _cut_out(image, greys, rng)
    if rng.uniform() < SHADED:
        image *= np.exp(rng.uniform(0.05, 0.4) * smooth_phase(shape, rng))
    np.maximum(image, 0, out=image)
    return image / max(float(image.max()), 1e-6)


def leaf_radii(count: int, limits: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Radii (count,) with density proportional to r^-3 between the limits: then the image looks alike at all scales.

    Source: Lee, Mumford and Huang, Occlusion models for natural images, IJCV 41 (2001).
    """
    most, fewest = (limit**-2 for limit in limits)
    return (most - rng.uniform(size=count) * (most - fewest)) ** -0.5


def power_law_field(shape: Sequence[int], exponent: float, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian random field (H, W) float32 of mean 0 and deviation 1 whose amplitude falls as 1/f^exponent.

    f counts periods in the field of view, whatever its aspect.
    """
    frequency = _frequencies(shape)
    frequency[0, 0] = np.inf
    return _filtered_noise(shape, frequency**-exponent, rng)


def _frequencies(shape: Sequence[int]) -> np.ndarray:
    height, width = shape
    return np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)


def _filtered_noise(shape: Sequence[int], gain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft2(rng.standard_normal(shape, dtype=np.float32)) * gain
    field = np.fft.irfft2(spectrum, s=tuple(shape)).astype(np.float32)
    return (field - field.mean()) / field.std()


def _greys(rng: np.random.Generator) -> Callable[[int], np.ndarray]:
    """How an object draws grey values: of a beta distribution, or of a few tissues with little scatter."""
    a, b = rng.uniform(0.6, 3, 2)
    if rng.uniform() < 0.5:
        return lambda count: rng.beta(a, b, count).astype(np.float32)
    tissues, scatter = rng.beta(a, b, int(rng.integers(3, 8))), rng.uniform(0, 0.06)
    return lambda count: np.clip(rng.choice(tissues, count) + rng.normal(0, scatter, count), 0, 1).astype(np.float32)


def _folds(shape: Sequence[int], greys: Callable[[int], np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Level sets of a smooth random field: convoluted layers, each of one grey value."""
    if rng.uniform() < 0.5:
        field = power_law_field(shape, rng.uniform(1.5, 2.5), rng)
    else:  # of one width
        periods, spread = rng.uniform(4, 16), rng.uniform(0.2, 0.6)
        gain = np.exp(-(((_frequencies(shape) - periods) / (spread * periods)) ** 2))
        field = _filtered_noise(shape, gain, rng)
    levels = np.clip(((field + 3) * rng.uniform(0.7, 2.5)).astype(int), 0, 15)
    return greys(16)[levels]


def _paint_leaf(image: np.ndarray, radius: float, grey: float, rng: np.random.Generator) -> None:
    """Paint a superellipse from a diamond to a box, plain, striped or speckled, over what is there."""
    height, width = image.shape
    cy, cx, angle = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0, np.pi)
    thin, power, kind = rng.uniform(), rng.choice(POWERS), rng.uniform()
    across = radius * (rng.uniform(0.08, 0.3) if thin < THIN else rng.uniform(0.4, 1))
    reach = radius * 1.5
    top, bottom = (int((c + 1) / 2 * height) for c in (max(cy - reach, -1), min(cy + reach, 1)))
    left, right = (int((c + 1) / 2 * width) for c in (max(cx - reach, -1), min(cx + reach, 1)))
    y = ((2 * np.arange(top, bottom, dtype=np.float32) + 1) / height - 1 - cy)[:, None]
    x = ((2 * np.arange(left, right, dtype=np.float32) + 1) / width - 1 - cx)[None]
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = c * x + s * y, c * y - s * x
    inside = np.abs(u / radius) ** power + np.abs(v / across) ** power < 1
    value: float | np.ndarray = grey
    if kind < STRIPED:
        wave = np.sin(u * rng.uniform(10, 80) + rng.uniform(0, 6))
        value = grey * (1 - rng.uniform(0.1, 0.8) * (wave > 0 if rng.uniform() < 0.5 else (wave + 1) / 2))
    elif kind < STRIPED + SPECKLED:
        value = grey * (1 + rng.uniform(0.05, 0.3) * rng.standard_normal(inside.shape, dtype=np.float32))
    part = image[top:bottom, left:right]
    np.copyto(part, value, where=inside)


def _cut_out(image: np.ndarray, greys: Callable[[int], np.ndarray], rng: np.random.Generator) -> None:
    """Leave what lies in one to three superellipses with wavy edges, some with rims; all else becomes 0."""
    y, x = coordinates(image.shape)
    parts = int(rng.choice([1, 1, 1, 1, 2, 3]))
    depth = np.full(image.shape, -np.inf, np.float32)
    for _ in range(parts):
        size = rng.uniform(0.55, 0.95, 2) if parts == 1 else rng.uniform(0.25, 0.6, 2)
        away = 1 - size if parts == 1 else 0.9 - size
        dy, dx = y - rng.uniform(-1, 1) * away[0], x - rng.uniform(-1, 1) * away[1]
        angle, power = rng.uniform(-0.5, 0.5), rng.uniform(1.7, 4)
        u, v = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
        around = np.arctan2(v / size[0], u / size[1])
        edge = sum(rng.normal(0, 0.03) * np.cos(k * around + rng.uniform(0, 6)) for k in range(2, 6))
        radius = (np.abs(v / size[0]) ** power + np.abs(u / size[1]) ** power) ** (1 / power)
        depth = np.maximum(depth, 1 + edge - radius)
    if rng.uniform() < RIMMED:
        rims = int(rng.integers(1, 4))
        start = 0.0
        for grey, thickness in zip(greys(rims), rng.uniform(0.02, 0.1, rims), strict=True):
            image[(depth >= start) & (depth < start + thickness)] = grey
            start += thickness
    image[depth < 0] = 0
