"""Brain-like axial sections: scalp, skull, CSF, folded cortex, white matter, ventricles, deep nuclei, lesions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from scripts.phantoms.anatomy import Frame, Texture, frame, jitter, paint, texture

TISSUES = (
    "scalp", "muscle", "bone", "marrow", "csf", "grey", "white", "nucleus", "lesion", "vessel",
)  # fmt: skip
CONTRASTS = {
    name: dict(zip(TISSUES, values, strict=True))
    for name, values in {
        "AXT2": (0.62, 0.22, 0.04, 0.3, 1.0, 0.58, 0.38, 0.45, 0.85, 0.08),
        "AXT1": (0.85, 0.42, 0.06, 0.6, 0.16, 0.45, 0.7, 0.55, 0.38, 0.9),
        "AXFLAIR": (0.65, 0.3, 0.05, 0.3, 0.1, 0.62, 0.46, 0.52, 1.0, 0.08),
    }.items()
}
"""Relative intensities of the tissues, by fastMRI's name of the acquisition."""


def brain_slices(
    shape: Sequence[int], positions: Iterable[float], rng: np.random.Generator, acquisition: str = "AXT2"
) -> np.ndarray:
    """Axial sections of one random brain-like object, anterior up.

    ``positions`` run from the basal ganglia (-0.1) over the bodies of the ventricles (0.4) to the centrum
    semiovale (0.7). Returns (S, H, W) float32, intensities about 0 to 1.
    """
    head = _Head(shape, rng, acquisition)
    return np.stack([head.section(z) for z in positions])


class _Head:
    def __init__(self, shape: Sequence[int], rng: np.random.Generator, acquisition: str) -> None:
        self.frame: Frame = frame(shape, rng, magnify=rng.uniform(0.95, 1.2))
        self.tissue = jitter(CONTRASTS[acquisition], rng, 0.2)
        length = rng.uniform(0.8, 0.9)
        self.axes = length, length * rng.uniform(0.76, 0.88)
        self.scalp, self.skull = rng.uniform(0.035, 0.075), rng.uniform(0.05, 0.08)
        self.gap = rng.uniform(0.01, 0.04)
        self.fold: Texture = texture(shape, rng, rng.uniform(0.26, 0.36), 0.22)
        self.fold_depth, self.sulcus = rng.uniform(0.26, 0.42), rng.uniform(0.05, 0.3)
        self.cortex, self.ribbon = rng.uniform(0.04, 0.055), rng.uniform(0.6, 0.8)
        self.grain: Texture = texture(shape, rng, rng.uniform(0.05, 0.12), 0.8)
        self.patch: Texture = texture(shape, rng, 0.5, 0.6)
        self.bias: Texture = texture(shape, rng, 2.0, 0.3)
        self.grain_size, self.bias_size = rng.uniform(0.005, 0.03), rng.uniform(0, 0.08)
        self.ventricle = rng.uniform(0.7, 1.5)
        self.midline: Texture = texture(shape, rng, 0.7, 0.3)
        count = rng.poisson(3)
        self.lesions = [
            (
                rng.uniform(-0.5, 0.5),
                rng.uniform(-0.4, 0.4),
                rng.uniform(0.015, 0.07),
                rng.uniform(0.6, 1.6),
                rng.uniform(0, np.pi),
                rng.uniform(-0.1, 0.7),
            )
            for _ in range(count)
        ]

    def section(self, z: float) -> np.ndarray:
        f, t = self.frame, self.tissue
        image = np.zeros_like(f.y)
        shrink = np.sqrt(1 - (0.75 * z) ** 2)
        ay, ax = self.axes[0] * shrink, self.axes[1] * shrink * (1 + 0.08 * f.y)
        depth = (1 - np.hypot(f.y / ay, f.x / ax)) * (ay + self.axes[1]) / 2
        paint(image, f.mask(depth), t["muscle"])
        paint(image, f.mask(depth - 0.012), t["scalp"] * (1 + 0.1 * self.grain.at(2 * z)))
        bone = depth - self.scalp
        paint(image, f.mask(bone), t["bone"])
        paint(
            image,
            f.mask(np.minimum(bone - 0.3 * self.skull, 0.72 * self.skull - bone)),
            t["marrow"] * (1 + 0.2 * self.grain.at(2 * z)),
        )
        inner = bone - self.skull
        paint(image, f.mask(inner), t["csf"])
        brain = inner - self.gap
        self._brain(image, brain, z)
        image *= 1 + self.bias_size * self.bias.at(z)
        return np.maximum(image, 0).astype(np.float32)

    def _brain(self, image: np.ndarray, brain: np.ndarray, z: float) -> None:
        f, t = self.frame, self.tissue
        inside = f.mask(brain)
        midline = np.abs(f.x + 0.012 * self.midline.at(z))
        reach = np.clip(1 - brain / self.fold_depth, 0, 1)
        fold = np.abs(self.fold.at(1.2 * z)) + 0.4 * (1 - reach)
        sulcus = (self.sulcus * reach - fold) / 10  # the field changes by about 10 per unit of length
        grey = np.maximum((self.sulcus + self.ribbon) * np.sqrt(reach) - fold, 10 * (self.cortex - brain)) / 10
        frontal = np.abs(f.y) > (0.3 if z < 0.35 else 0.06)
        grey = np.where(frontal, np.maximum(grey, self.cortex - midline), grey)
        mottle = 1 + self.grain_size * self.grain.at(2 * z) + 0.04 * self.patch.at(z)
        paint(image, inside, t["white"] * mottle)
        paint(image, inside * f.mask(grey), t["grey"] * mottle)
        if z < 0.35:
            curve = np.abs(np.abs(f.x) - 0.43 - 0.8 * (f.y + 0.05) ** 2 + 0.1 * f.y)
            paint(image, inside * f.mask(np.minimum(0.05 - curve, 0.22 - np.abs(f.y + 0.05))), t["grey"] * mottle)
            paint(image, inside * f.mask(np.minimum(0.01 - curve, 0.2 - np.abs(f.y + 0.05))), t["csf"])
        self._nuclei(image, inside, z)
        paint(image, inside * f.mask(sulcus), t["csf"])
        fissure = 0.008 + 0.02 * np.clip(np.abs(f.y) - 0.3, 0, 1) - midline
        paint(image, inside * f.mask(np.where(frontal, fissure, -1)), t["csf"])
        self._ventricles(image, inside, z)
        for y, x, radius, ratio, angle, at in self.lesions:
            size = radius * np.sqrt(max(0.0, 1 - ((z - at) / 0.2) ** 2))
            if size > 0.008:
                mask = inside * f.mask(f.ellipse(y, x, size, size * ratio, angle), 3)
                paint(image, mask, t["lesion"])

    def _nuclei(self, image: np.ndarray, inside: np.ndarray, z: float) -> None:
        f, t = self.frame, self.tissue
        fade = float(np.clip((0.33 - z) / 0.1, 0, 1))
        for side in (-1, 1):
            shapes = [
                f.ellipse(-0.02, 0.27 * side, 0.17, 0.06, -0.25 * side),
                f.ellipse(-0.2, 0.12 * side, 0.1, 0.045, 0.25 * side),
                f.ellipse(0.13, 0.1 * side, 0.13, 0.075, -0.35 * side),
            ]
            for level, value in zip(shapes, (0.95, 1.08, 1.0), strict=True):
                paint(image, fade * inside * f.mask(level, 2), t["nucleus"] * value)

    def _ventricles(self, image: np.ndarray, inside: np.ndarray, z: float) -> None:
        f, t, size = self.frame, self.tissue, self.ventricle
        low = float(np.clip((0.35 - z) / 0.15, 0, 1))
        high = float(np.clip((0.65 - z) / 0.2, 0, 1)) * (1 - low)
        levels = []
        for side in (-1, 1):
            if low > 0:
                levels.append(f.ellipse(-0.24, 0.075 * side, 0.12, 0.034 * size * low, 0.35 * side))
                levels.append(f.ellipse(0.36, 0.16 * side, 0.13, 0.03 * size * low, -0.35 * side))
            if high > 0:
                levels.append(f.ellipse(-0.02, 0.09 * side, 0.33, 0.045 * size * high, 0.08 * side))
        if low > 0:
            levels.append(f.ellipse(0.06, 0.0, 0.12, 0.012 * size, 0.0))
        for level in levels:
            paint(image, inside * f.mask(level, 1.5), t["csf"])
