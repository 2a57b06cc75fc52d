"""Drawing tools of the phantoms: soft-edged shapes, textures that change smoothly from slice to slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft as sp_fft

from scripts.phantoms.acquisition import coordinates


@dataclass(frozen=True)
class Texture:
    """Random field (H, W), unit variance at each position ``z``; neighbours in ``z`` are alike."""

    cosine: np.ndarray
    sine: np.ndarray

    def at(self, z: float) -> np.ndarray:
        """Field at position ``z``; positions ``pi / 2`` apart are independent."""
        return np.cos(z) * self.cosine + np.sin(z) * self.sine


def texture(
    shape: Sequence[int],
    rng: np.random.Generator,
    wavelength: float,
    bandwidth: float = 0.4,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> Texture:
    """Band-pass random field with structure of size ``wavelength`` (field of view = 2).

    ``stretch`` > 1 lengthens the structure along the direction ``angle`` (radians from the x axis): fibres.
    """
    fy = np.fft.fftfreq(shape[0], 2 / shape[0])[:, None]
    fx = np.fft.rfftfreq(shape[1], 2 / shape[1])[None, :]
    along = (np.cos(angle) * fx + np.sin(angle) * fy) * stretch
    across = -np.sin(angle) * fx + np.cos(angle) * fy
    radius = np.hypot(along, across) * wavelength
    gain = np.exp(-0.5 * (np.log(np.maximum(radius, 1e-6)) / bandwidth) ** 2)
    fields = []
    for _ in range(2):
        spectrum = sp_fft.rfft2(rng.standard_normal(tuple(shape), dtype=np.float32))
        field = sp_fft.irfft2(spectrum * gain, s=tuple(shape))
        fields.append((field / field.std()).astype(np.float32))
    return Texture(*fields)


@dataclass(frozen=True)
class Frame:
    """Deformed drawing coordinates of a volume: ``y`` down, ``x`` right, each (H, W), about [-1, 1]."""

    y: np.ndarray
    x: np.ndarray
    edge: float

    def ellipse(self, cy: float, cx: float, ry: float, rx: float, angle: float = 0.0) -> np.ndarray:
        """Signed level of an ellipse, about the distance to its edge, positive inside."""
        dy, dx = self.y - cy, self.x - cx
        c, s = np.cos(angle), np.sin(angle)
        return (1 - np.hypot((c * dy - s * dx) / ry, (s * dy + c * dx) / rx)) * min(ry, rx)

    def segment(self, start: Sequence[float], end: Sequence[float], radius: float) -> np.ndarray:
        """Signed level of a band of half-width ``radius`` from ``start`` (y, x) to ``end`` (y, x)."""
        vy, vx = end[0] - start[0], end[1] - start[1]
        t = ((self.y - start[0]) * vy + (self.x - start[1]) * vx) / (vy**2 + vx**2)
        t = np.clip(t, 0, 1)
        return radius - np.hypot(self.y - start[0] - t * vy, self.x - start[1] - t * vx)

    def mask(self, level: np.ndarray, softness: float = 1.0) -> np.ndarray:
        """Soft mask of a signed level: 0 outside, 1 inside, a ramp of ``softness`` pixels between."""
        return np.clip(level / (softness * self.edge) + 0.5, 0, 1)


def frame(
    shape: Sequence[int],
    rng: np.random.Generator,
    bend: float = 0.03,
    rotation: float = 0.12,
    shift: float = 0.04,
    scale: float = 0.05,
    magnify: float = 1.0,
) -> Frame:
    """Coordinates with a random pose (radians, fraction of the half field of view) and a smooth deformation.

    ``magnify`` > 1 draws the object larger, in a smaller field of view.
    """
    y, x = coordinates(shape)
    angle, (dy, dx) = rng.normal(0, rotation / 2), rng.normal(0, shift / 2, 2)
    zoom = (1 + rng.normal(0, scale / 2)) / magnify
    c, s = np.cos(angle), np.sin(angle)
    warped_y = zoom * (c * (y - dy) - s * (x - dx))
    warped_x = zoom * (s * (y - dy) + c * (x - dx))
    warped_y = warped_y + bend * texture(shape, rng, 1.0).cosine / 2
    warped_x = warped_x + bend * texture(shape, rng, 1.0).cosine / 2
    return Frame(warped_y, warped_x, 3.0 / (magnify * shape[0]))


def paint(image: np.ndarray, mask: np.ndarray, value: np.ndarray | float) -> None:
    """Blend ``value`` into ``image`` in place where ``mask`` is 1."""
    image += mask * (value - image)


def jitter(values: dict[str, float], rng: np.random.Generator, amount: float = 0.12) -> dict[str, float]:
    """Tissue intensities of one scan: each scaled by a random factor of spread ``amount``."""
    return {name: float(value * np.exp(rng.normal(0, amount))) for name, value in values.items()}
