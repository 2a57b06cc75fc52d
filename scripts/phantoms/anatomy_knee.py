"""Knee-like sagittal sections: femur, tibia, patella, cartilage, menisci, ligaments, muscle, fat, skin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from scripts.phantoms.anatomy import frame, jitter, paint, texture

TISSUES = (
    "skin", "fat", "marrow", "cortex", "cartilage", "fluid", "meniscus", "ligament", "muscle", "vessel",
)  # fmt: skip
CONTRASTS = {
    name: dict(zip(TISSUES, values, strict=True))
    for name, values in {
        "SAGPD": (0.35, 0.95, 0.72, 0.05, 0.55, 0.8, 0.1, 0.08, 0.36, 0.06),
        "SAGPDFS": (0.3, 0.34, 0.28, 0.06, 0.62, 0.8, 0.14, 0.1, 0.5, 0.1),
    }.items()
}
"""Relative intensities of the tissues, by acquisition: proton density, without and with fat suppression."""


def knee_slices(
    shape: Sequence[int], positions: Iterable[float], rng: np.random.Generator, acquisition: str = "SAGPD"
) -> np.ndarray:
    """Sagittal sections of one random knee-like object, anterior left.

    ``positions`` run from the medial condyle (-0.7) over the intercondylar notch (0) to the lateral condyle (0.7).
    Returns (S, H, W) float32, intensities about 0 to 1.
    """
    knee = _Knee(shape, rng, acquisition)
    return np.stack([knee.section(z) for z in positions])


class _Knee:
    """One knee: ``z`` runs from the medial (-1) over the notch (0) to the lateral condyle (1)."""

    def __init__(self, shape: Sequence[int], rng: np.random.Generator, acquisition: str) -> None:
        self.frame = frame(shape, rng, magnify=rng.uniform(1.15, 1.35))
        self.tissue = jitter(CONTRASTS[acquisition], rng)
        self.trabecula = texture(shape, rng, rng.uniform(0.035, 0.06), 0.3, 2.0, np.pi / 2)
        self.marrow = texture(shape, rng, 0.3, 0.5)
        self.fibre = texture(shape, rng, rng.uniform(0.04, 0.07), 0.4, 6.0, np.pi / 2 + rng.normal(0, 0.15))
        self.septum = texture(shape, rng, 0.35, 0.25, 3.0, np.pi / 2 + rng.normal(0, 0.15))
        self.lobule = texture(shape, rng, rng.uniform(0.08, 0.14), 0.4)
        self.bias = texture(shape, rng, 2.0, 0.3)
        self.trabecula_size, self.fibre_size = rng.uniform(0.02, 0.06), rng.uniform(0.03, 0.08)
        self.skin_fat, self.size = rng.uniform(0.06, 0.16), rng.uniform(0.92, 1.08)
        self.effusion = rng.uniform(0.0, 0.05)
        self.gap = rng.uniform(0.02, 0.035)

    def section(self, z: float) -> np.ndarray:
        f, t = self.frame, self.tissue
        image = np.zeros_like(f.y)
        y, x = f.y, f.x
        bulge = 0.1 * np.exp(-(((y + 0.2) / 0.28) ** 2)) - 0.03 * np.exp(-(((y - 0.35) / 0.25) ** 2))
        front = -0.56 - bulge + 0.14 * np.clip((y - 0.25) / 0.4, 0, 1)
        back = 0.62 + 0.1 * np.sin(2.2 * (y - 0.3))
        leg = np.minimum(x - front, back - x)
        paint(image, f.mask(leg), t["skin"])
        lobules = 1 + 0.04 * self.lobule.at(z) - 0.1 * (np.abs(self.lobule.at(z)) < 0.12)
        paint(image, f.mask(leg - 0.018), t["fat"] * lobules)
        fascia = np.minimum(x - front - 0.05, back - x - self.skin_fat)
        self._muscle(image, fascia, z)
        self._joint(image, z)
        self._extensor(image, z)
        image *= 1 + 0.05 * self.bias.at(z)
        return np.maximum(image, 0).astype(np.float32)

    def _muscle(self, image: np.ndarray, fascia: np.ndarray, z: float) -> None:
        f, t = self.frame, self.tissue
        y, x = f.y, f.x
        fibres = 1 + self.fibre_size * self.fibre.at(z)
        septa = np.abs(self.septum.at(z)) < 0.1
        value = np.where(septa, 0.5 * (t["fat"] + t["muscle"]), t["muscle"] * fibres)
        thigh = np.minimum(
            fascia, np.maximum(np.minimum(-0.87 - 0.8 * x - y, -0.02 - x), x - 0.3 - 0.25 * np.maximum(y, 0))
        )
        calf = np.minimum(fascia, np.minimum(x - 0.3 + 0.25 * (y - 0.1), y + 0.2))
        paint(image, f.mask(np.maximum(thigh, calf), 2), value)
        popliteal = f.ellipse(-0.25, 0.42, 0.35, 0.13)
        fade = float(np.clip(1.2 - 2 * abs(z), 0, 1))
        paint(image, fade * f.mask(np.minimum(popliteal, fascia), 4), t["fat"] * (1 + 0.04 * self.lobule.at(z)))
        vessel = np.minimum(0.025 - np.abs(x - 0.42 - 0.03 * np.sin(5 * y)), fascia)
        paint(image, fade * f.mask(vessel), t["vessel"])

    def _bone(self, image: np.ndarray, level: np.ndarray, z: float) -> None:
        f, t = self.frame, self.tissue
        marrow = 1 + self.trabecula_size * self.trabecula.at(z) + 0.05 * self.marrow.at(z)
        paint(image, f.mask(level), t["cortex"])
        paint(image, f.mask(level - 0.02), t["marrow"] * marrow)

    def _joint(self, image: np.ndarray, z: float) -> None:
        f, t, size = self.frame, self.tissue, self.size
        y, x = f.y, f.x
        notch = float(np.exp(-((z / 0.22) ** 2)))
        radius = size * (0.33 - 0.07 * notch - 0.05 * z**2)
        cy, cx = -0.2, 0.03 - 0.03 * notch
        condyle = f.ellipse(cy, cx, radius * 0.92, radius)
        axis = -0.06 + 0.06 * (y + 1)
        shaft = np.minimum(0.2 * size + 0.1 * np.clip(y + 0.5, 0, 1) - np.abs(x - axis), cy - y)
        femur = np.maximum(condyle, shaft)
        floor = cy + 0.92 * radius
        top = floor + 2 * self.gap + 0.03 * notch
        waist = 0.34 * size - 0.34 * np.clip(y - top - 0.08, 0, 0.4)
        tibia = np.minimum(y - top - 0.02 * np.cos(6 * (x - cx)), waist - np.abs(x - cx + 0.02))
        cartilage = 0.035 * (1 - 0.5 * notch)
        capsule = np.minimum(condyle + 0.06 + self.effusion, y + 0.35)
        paint(image, f.mask(capsule), t["fluid"] * 0.85)
        paint(image, f.mask(np.minimum(condyle + 0.15, np.minimum(0.18 - np.abs(y - 0.14), x - 0.05))), t["fat"] * 0.9)
        hoffa = np.minimum(np.minimum(x + 0.5, -0.05 - x), np.minimum(y + 0.12, 0.32 - y))
        paint(image, f.mask(hoffa), t["fat"] * (1 + 0.04 * self.lobule.at(z)))
        paint(image, f.mask(np.minimum(condyle + cartilage + self.effusion, y + 0.3)), t["fluid"])
        paint(image, f.mask(np.minimum(condyle + cartilage, y + 0.4)), t["cartilage"])
        plateau = np.minimum(tibia + 0.028, 0.1 - (y - top))
        paint(image, f.mask(plateau), t["cartilage"])
        fade = 1 - notch
        for side in (-1, 1):
            wedge = np.minimum(top - 0.004 - y, np.minimum(-(condyle + 0.012), side * (x - cx) - 0.13 * size))
            wedge = np.minimum(wedge, 0.31 * size - side * (x - cx))
            paint(image, fade * f.mask(np.minimum(wedge, y - floor + 0.17)), t["meniscus"])
        self._bone(image, femur, z)
        self._bone(image, tibia, z)
        scar = np.abs(y - top - 0.17 - 0.03 * np.cos(7 * x)) - 0.006
        paint(image, 0.5 * f.mask(np.minimum(-scar, tibia - 0.03)), t["cortex"])
        if z > 0.35:
            self._bone(image, f.segment((top + 0.14, 0.42), (1.2, 0.38), 0.06 * size), z)
        if notch > 0.15:
            for start, end, width in (
                ((cy + 0.02, cx + 0.12), (top + 0.02, cx - 0.14), 0.025),
                ((cy + 0.14, cx - 0.02), (top + 0.04, cx + 0.28), 0.03),
            ):
                band = f.segment(start, end, width * size)
                paint(image, notch * f.mask(band), t["ligament"] * (1 + 0.5 * np.abs(self.fibre.at(z))))

    def _extensor(self, image: np.ndarray, z: float) -> None:
        f, t, size = self.frame, self.tissue, self.size
        fade = float(np.clip(1.6 - 2 * abs(z), 0, 1))
        if fade == 0:
            return
        before = image.copy()
        patella = f.ellipse(-0.24, -0.5, 0.17 * size, 0.085 * size, -0.1)
        tendon = np.maximum(
            f.segment((-0.4, -0.53), (-1.1, -0.46), 0.028), f.segment((-0.1, -0.52), (0.36, -0.36), 0.028)
        )
        behind = f.ellipse(-0.24, -0.47, 0.15 * size, 0.09 * size, -0.1)
        paint(image, f.mask(behind), t["cartilage"])
        paint(image, f.mask(tendon), t["ligament"])
        self._bone(image, patella, z)
        image[:] = before + fade * (image - before)
