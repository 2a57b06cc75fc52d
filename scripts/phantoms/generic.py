"""Generic scans that are nobody's data: dead leaves, folded layers and 1/f textures seen by random coils."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from scripts.phantoms.acquisition import coil_maps, coordinates, crop_kspace, fft2c, ifft2c, rss_target, smooth_phase

FINENESS = 2
"""An object is drawn on a grid so many times as fine as the matrix, so that its edges are partial volumes."""
SHARED, MARGIN = 16, 1.5
"""Leaves are drawn for so many slices at once, on a field so many times as wide; each slice sees another part of it,
mirrored or not, in other grey values, within another outline."""
SMALLEST, LARGEST = (0.025, 0.12), 0.7
"""The range of the smallest radius of a leaf, log-uniform, and the largest, in halves of the field of view."""
LEAVES = 120, 400
"""The fewest and the most leaves in a field of view; log-uniform."""
BARE, RIMMED, FOLDED, TEXTURED, SHADED = 0.05, 0.5, 0.4, 0.7, 0.6
"""The shares of objects without an outline, of outlines with rims, and of objects with folds, texture, shading."""
STRIPED, SPECKLED, THIN = 0.15, 0.15, 0.15
"""The shares of leaves with stripes, with a texture of their own, and of thin ones."""
PHASE = 0.0, 1.5
"""The standard deviation of the object's smooth phase, in radians."""
NOISE = 0.003, 0.03
"""The standard deviation of the noise, in shares of the image's maximum; log-uniform."""
PEAK = 2e-4, 4e-4
"""The maximum of the noise-free image; fastMRI's images have such maxima."""
COIL_DISTANCE = 1.1, 2.5
"""The mean distance of loops from the centre, see :func:`scripts.phantoms.acquisition.coil_maps`."""
COIL_WIDTH = 0.5, 1.5
"""The standard deviation of a Gaussian sensitivity, in halves of the field of view."""


class Leaves(NamedTuple):
    """Overlapping shapes without grey values: the number of the leaf on top, and its stripes or speckles.

    Attributes:
        numbers: (H, W) int16; 0 where there is no leaf.
        pattern: (H, W) float32, a factor of the leaf's grey value.
        total: The number of leaves.
    """

    numbers: np.ndarray
    pattern: np.ndarray
    total: int


class GenericSlices(Dataset):
    """Slices of generic scans, drawn when they are read, with the items of :class:`scripts.data.SliceDataset`.

    Item i before ``transform`` follows from the settings, the seed and i alone, in any order and in any process, so
    nothing is stored. A training that is to see no image twice takes as many slices as it reads. Read in order, a slice
    takes least time: ``SHARED`` neighbours show parts of the same leaves.

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
        self._latest: tuple[int, Leaves] = (-1, Leaves(np.empty(0), np.empty(0), 0))
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
                    f"generic slices: {name!r}: expected [lowest, highest] from {lowest} to {highest}, found {found}"
                )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < self.length:
            raise IndexError(f"generic slices: expected an index below {self.length}, found {index}")
        rng = np.random.default_rng((self.seed, index))
        coils = int(rng.integers(self.num_coils[0], self.num_coils[1] + 1))
        image = generic_image(self._leaves(index // SHARED), [FINENESS * n for n in self.matrix], rng)
        kspace = acquire(image, self.matrix, coils, rng, self.noise, self.peak)
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

    def _leaves(self, number: int) -> Leaves:
        if self._latest[0] != number:
            rng = np.random.default_rng((self.seed, number, 1))
            self._latest = number, draw_leaves([round(FINENESS * MARGIN * n) for n in self.matrix], rng)
        return self._latest[1]

    def _name(self, index: int) -> str:
        return f"generic/{self.seed}-{index}"


def acquire(
    image: np.ndarray,
    matrix: Sequence[int],
    num_coils: int,
    rng: np.random.Generator,
    noise: Sequence[float] = NOISE,
    peak: Sequence[float] = PEAK,
) -> np.ndarray:
    """Noisy k-space (C, H, W) complex64 of a magnitude image (H', W'), see :class:`GenericSlices` for the ranges."""
    seen = ifft2c(crop_kspace(fft2c(image), matrix))  # phase and sensitivities are smooth: the matrix is fine enough
    seen = seen * np.exp(1j * rng.uniform(*PHASE) * smooth_phase(matrix, rng))
    kspace = fft2c(seen * random_coils(num_coils, matrix, rng)).astype(np.complex64)
    gain, level = rng.uniform(peak[0], peak[1]), np.exp(rng.uniform(*np.log(noise)))
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


def generic_image(leaves: Leaves, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """A magnitude image (H, W) float32, from 0 to 1: leaves and folds within an outline, textured and shaded.

    Args:
        leaves: Leaves on a field that is at least as large as the image.
        shape: (H, W).
        rng: The generator of the part that is seen, of grey values, folds, texture, outline and shading.
    """
    greys = _greys(rng)
    top, left = (int(rng.integers(have - want + 1)) for have, want in zip(leaves.numbers.shape, shape, strict=True))
    part = np.s_[top : top + shape[0], left : left + shape[1]]
    mirror = np.s_[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    numbers, pattern = leaves.numbers[part][mirror], leaves.pattern[part][mirror]
    image = greys(leaves.total + 1)[numbers] * pattern
    if rng.uniform() < FOLDED:
        np.copyto(image, _folds(shape, greys, rng), where=numbers == 0)
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


def draw_leaves(shape: Sequence[int], rng: np.random.Generator) -> Leaves:
    """Diamonds, ellipses and boxes with power-law radii, plain, striped or speckled, each over those before."""
    half = np.array(shape) / (2 * MARGIN)  # of a field of view, in pixels
    count = int(MARGIN**2 * np.exp(rng.uniform(*np.log(LEAVES))))
    radii = leaf_radii(count, (np.exp(rng.uniform(*np.log(SMALLEST))), LARGEST), rng)
    if rng.uniform() < 0.5:
        radii = np.sort(radii)[::-1]  # small structures lie on large ones, as in a body
    leaves = Leaves(np.zeros(shape, np.int16), np.ones(shape, np.float32), count)
    ys, xs = (np.arange(n, dtype=np.float32) for n in shape)
    places = rng.uniform(size=(count, 2)) * shape
    for number, (radius, place, draw) in enumerate(zip(radii, places, rng.uniform(size=(count, 8)), strict=True), 1):
        flat = np.float32(0.08 + 0.22 * draw[1] if draw[0] < THIN else 0.4 + 0.6 * draw[1])
        box = draw[2] > 0.7
        reach = half * radius * (1.42 if box else 1)  # to the corners of a box
        (top, left), (bottom, right) = np.maximum(place - reach, 0).astype(int), (place + reach).astype(int) + 1
        where = np.s_[top:bottom, left:right]
        y = (ys[top:bottom, None] - np.float32(place[0])) / np.float32(half[0] * radius)
        x = (xs[left:right] - np.float32(place[1])) / np.float32(half[1] * radius)
        c, s = _turn(math.pi * draw[3])
        u, v = c * x + s * y, (c * y - s * x) / flat
        away = np.maximum(abs(u), abs(v)) if box else u * u + v * v if draw[2] > 0.15 else abs(u) + abs(v)
        inside = away < 1
        leaves.numbers[where][inside] = number
        pattern: float | np.ndarray = 1.0
        if draw[4] < STRIPED:
            wave = np.sin(u * np.float32(5 + 75 * radius * draw[5]) + np.float32(6 * draw[6]))
            pattern = (1 - np.float32(0.1 + 0.7 * draw[7]) * (wave > 0 if draw[6] < 0.5 else (wave + 1) / 2))[inside]
        elif draw[4] < STRIPED + SPECKLED:
            pattern = 1 + np.float32(0.05 + 0.25 * draw[5]) * rng.standard_normal(int(inside.sum()), dtype=np.float32)
        leaves.pattern[where][inside] = pattern
    return leaves


def _turn(angle: float) -> tuple[np.float32, np.float32]:
    return np.float32(math.cos(angle)), np.float32(math.sin(angle))


def _cut_out(image: np.ndarray, greys: Callable[[int], np.ndarray], rng: np.random.Generator) -> None:
    """Leave what lies in one to three superellipses with wavy edges, some with rims; all else becomes 0."""
    y, x = (axis.astype(np.float32) for axis in coordinates(image.shape))
    parts = int(rng.choice([1, 1, 1, 1, 2, 3]))
    depth = np.full(image.shape, -np.inf, np.float32)
    for _ in range(parts):
        size = rng.uniform(0.55, 0.95, 2) if parts == 1 else rng.uniform(0.25, 0.6, 2)
        middle = rng.uniform(-1, 1, 2) * ((1 if parts == 1 else 0.9) - size)
        (c, s), power = _turn(rng.uniform(-0.5, 0.5)), rng.uniform(1.7, 4)
        dy, dx = y - np.float32(middle[0]), x - np.float32(middle[1])
        u, v = (c * dx + s * dy) / np.float32(size[1]), (c * dy - s * dx) / np.float32(size[0])
        around = np.arctan2(v, u)
        edge = sum(
            np.float32(rng.normal(0, 0.03)) * np.cos(k * around + np.float32(rng.uniform(0, 6))) for k in (2, 3, 5)
        )
        depth = np.maximum(
            depth, 1 + edge - (np.abs(v) ** np.float32(power) + np.abs(u) ** np.float32(power)) ** np.float32(1 / power)
        )
    if rng.uniform() < RIMMED:
        rims = int(rng.integers(1, 4))
        start = 0.0
        for grey, thickness in zip(greys(rims), rng.uniform(0.02, 0.1, rims), strict=True):
            image[(depth >= start) & (depth < start + thickness)] = grey
            start += thickness
    image[depth < 0] = 0
