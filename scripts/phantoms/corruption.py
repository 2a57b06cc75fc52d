"""Corrupted acquisitions: the object moved between the shots, or discharges left spikes in k-space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from scripts.phantoms.acquisition import Scan

SHOTS = 4
ROTATION = 0.06
"""Standard deviation of a shot's rotation, in radians."""
SHIFT = 0.03
"""Standard deviation of a shot's displacement along each axis, as a fraction of the field of view."""
SPIKES = 3
SPIKE_LEVEL = (0.1, 0.4)
"""Range of a spike's magnitude, relative to the largest magnitude of the slice's k-space."""


def moved(image: np.ndarray, rotation: float, shift: Sequence[float] | np.ndarray) -> np.ndarray:
    """The image (H, W) turned about its centre by ``rotation`` radians, then displaced by ``shift`` (rows, columns).

    Positive rotations are counter-clockwise, as ``numpy.rot90``'s. Interpolation is linear; pixels from outside
    the image are 0. Without rotation and shift the image is returned bit by bit.
    """
    cosine, sine = np.cos(rotation), np.sin(rotation)
    back = np.array([[cosine, sine], [-sine, cosine]])
    centre = (np.array(image.shape) - 1) / 2
    return ndimage.affine_transform(image, back, centre - back @ (centre + np.asarray(shift)), order=1)


def random_pose(
    shape: Sequence[int], rng: np.random.Generator, rotation: float, shift: float
) -> tuple[float, np.ndarray]:
    """Random arguments of :func:`moved`, normal; the standard deviations are in radians and fields of view."""
    return rng.normal(0, rotation), rng.normal(0, shift, 2) * np.asarray(shape)


def interleave(shots: Sequence[np.ndarray]) -> np.ndarray:
    """One k-space (..., W) whose column c was measured in shot c modulo N, from N k-spaces (..., W)."""
    kspace = shots[0].copy()
    for number, shot in enumerate(shots):
        kspace[..., number :: len(shots)] = shot[..., number :: len(shots)]
    return kspace


def acquire_moving(
    scan: Scan,
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    shots: int = SHOTS,
    rotation: float = ROTATION,
    shift: float = SHIFT,
) -> np.ndarray:
    """Noisy k-space (C, H, W) complex64 of an object that moves between the shots of a multi-shot scan.

    Each shot measures every ``shots``-th column, like the echo trains of a turbo spin echo. The coils do not
    move; the object (H', W') is at rest in the first shot and in a random rigid pose in each other shot.

    Args:
        scan: The coils, phase, gain and noise level of the scan.
        image: The magnitude slice at rest.
        rng: The generator that draws poses and noise.
        shots: The number of shots of the scan.
        rotation: The standard deviation of a shot's rotation, in radians.
        shift: The standard deviation of a shot's displacement along each axis, as a fraction of the field of view.
    """
    states = [image]
    states += [moved(image, *random_pose(image.shape, rng, rotation, shift)) for _ in range(shots - 1)]
    return interleave([scan.acquire(state, rng) for state in states])


def spike_positions(shape: Sequence[int], rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (count,) of different samples of k-space (H, W)."""
    rows, columns = np.unravel_index(rng.choice(shape[0] * shape[1], count, replace=False), tuple(shape))
    return rows, columns


def with_spikes(
    kspace: np.ndarray,
    rng: np.random.Generator,
    *,
    count: int = SPIKES,
    level: tuple[float, float] = SPIKE_LEVEL,
) -> np.ndarray:
    """k-space (C, H, W) with ``count`` spikes, seen by all coils: stripes across the image (herringbone artefact).

    Args:
        kspace: The k-space as measured; it is not changed.
        rng: The generator that draws the place and size of each spike and, for each coil, its phase.
        count: The number of spikes of the slice.
        level: The range of a spike's magnitude, relative to the largest magnitude of ``kspace``.
    """
    rows, columns = spike_positions(kspace.shape[-2:], rng, count)
    size = np.abs(kspace).max() * rng.uniform(level[0], level[1], count)
    phase = rng.uniform(-np.pi, np.pi, (kspace.shape[0], count))
    spiked = kspace.copy()
    spiked[:, rows, columns] += (size * np.exp(1j * phase)).astype(kspace.dtype)
    return spiked


def acquire_with_spikes(scan: Scan, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noisy k-space (C, H, W) complex64 of a magnitude slice, with spikes."""
    return with_spikes(scan.acquire(image, rng), rng)
