"""A second phantom that shares no drawing and no acquisition with the built-in one: mosaics to keep, bars to forget.

``brain``: an ellipse of random Voronoi cells, each of one grey value. ``knee``: two or three bars with stripes across.
k-space is the FFT of the object times Gaussian coils, plus noise. Only the file format is the project's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from scripts.data import write_volume
from scripts.data.header import make_header
from scripts.phantoms.cache import cached_folder

VERSION = 1
NUMBERS = {"training": {"brain": 60, "knee": 10}, "validation": {"brain": 2}, "test": {"brain": 12, "knee": 12}}


def cell_phantom_datalist(
    numbers: Mapping[str, Mapping[str, int]] = NUMBERS,
    slices: int = 3,
    matrix: Sequence[int] = (64, 64),
    coils: int = 4,
    seed: int = 0,
) -> str:
    """Make the scans, or find those made before, and return the path of their datalist."""
    settings = {"version": VERSION, "numbers": dict(numbers), "slices": slices, "matrix": list(matrix), "coils": coils}
    folder = cached_folder(None, "cell-phantom", {**settings, "seed": seed}, lambda made: _write(made, settings, seed))
    return str(folder / "datalist.json")


def mosaic(grid: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> Callable[[float], np.ndarray]:
    """An ellipse of Voronoi cells: depth -> image (H, W) in [0, 1]."""
    centres, slope = rng.uniform(-0.8, 0.8, (40, 2)), rng.normal(0, 0.5, (40, 2))
    grey, radii = rng.uniform(0.2, 1.0, 40), rng.uniform(0.6, 0.85, 2)

    def draw(depth: float) -> np.ndarray:
        place = centres + depth * slope
        distance = (grid[0][..., None] - place[:, 0]) ** 2 + (grid[1][..., None] - place[:, 1]) ** 2
        inside = (grid[0] / radii[0]) ** 2 + (grid[1] / radii[1]) ** 2 < 1
        return inside * grey[distance.argmin(-1)]

    return draw


def bars(grid: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> Callable[[float], np.ndarray]:
    """Two or three long bars with stripes across: depth -> image (H, W) in [0, 1]."""
    number = rng.integers(2, 4)
    angles, places = rng.uniform(-0.4, 0.4, number), np.linspace(-0.55, 0.55, number) + rng.normal(0, 0.05, number)
    widths, waves, grey = (rng.uniform(low, high, number) for low, high in ((0.1, 0.2), (12, 30), (0.5, 1.0)))

    def draw(depth: float) -> np.ndarray:
        image = np.zeros_like(grid[0])
        for angle, place, width, wave, value in zip(angles, places, widths, waves, grey, strict=True):
            across = np.cos(angle) * (grid[1] - place) + np.sin(angle) * grid[0]
            along = np.cos(angle) * grid[0] - np.sin(angle) * (grid[1] - place)
            stripes = 0.7 + 0.3 * np.sign(np.sin(wave * (along + depth)))
            image = np.maximum(image, value * stripes * (np.abs(across) < width) * (np.abs(along) < 0.85))
        return image

    return draw


def _write(folder: Path, settings: Mapping, seed: int) -> None:
    height, width = settings["matrix"]
    header = make_header(
        matrix=(height, width), recon=(height, width), spacing=(3.0, 3.0), slice_thickness=4.0,
        num_coils=settings["coils"], systemModel="cells",
    )  # fmt: skip
    datalist: dict[str, list[dict[str, str]]] = {}
    for number, (section, counts) in enumerate(settings["numbers"].items()):
        (folder / section).mkdir()
        datalist[section] = []
        for kind, (anatomy, count) in enumerate(counts.items()):
            for index in range(count):
                rng = np.random.default_rng([seed, number, kind, index])
                entry = {"kspace": f"{section}/{anatomy}-{index:03d}.h5", "anatomy": anatomy,
                         "patient_id": f"{section}-{anatomy}-{index}"}  # fmt: skip
                scan = _scan({"brain": mosaic, "knee": bars}[anatomy], settings, rng)
                write_volume(
                    folder / entry["kspace"], scan, num_slices=settings["slices"], attributes=entry, header=header
                )
                datalist[section].append(entry)
    (folder / "datalist.json").write_text(json.dumps(datalist, indent=2) + "\n")


def _scan(draw: Callable, settings: Mapping, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """k-space (C, H, W) complex64 and root sum of squares (H, W) float32 of each slice; drawn twice as fine."""
    (height, width), coils = settings["matrix"], settings["coils"]
    y, x = np.meshgrid(np.linspace(-1, 1, 2 * height), np.linspace(-1, 1, 2 * width), indexing="ij")
    turn = 2 * np.pi * (np.arange(coils) + rng.uniform()) / coils
    maps = np.stack(
        [np.exp(-((y - np.sin(a)) ** 2 + (x - np.cos(a)) ** 2) / 2 + 1j * (a + 0.8 * x * np.sin(a))) for a in turn]
    )
    maps = maps * np.exp(1j * (rng.normal(0, 1, 3) * np.stack([y, x, x * y], -1)).sum(-1))
    thing, gain, noise = draw((y, x), rng), rng.uniform(2e-4, 4e-4), rng.uniform(0.01, 0.03)
    for index in range(settings["slices"]):
        wide = _fft(maps * thing(0.06 * index)) / 2
        kspace = wide[:, height // 2 : height // 2 + height, width // 2 : width // 2 + width]
        kspace = gain * (kspace + noise * (rng.normal(size=kspace.shape) + 1j * rng.normal(size=kspace.shape)))
        image = np.sqrt((np.abs(_fft(kspace, inverse=True)) ** 2).sum(0))
        yield kspace.astype(np.complex64), image.astype(np.float32)


def _fft(x: np.ndarray, inverse: bool = False) -> np.ndarray:
    transform = np.fft.ifft2 if inverse else np.fft.fft2
    return np.fft.fftshift(transform(np.fft.ifftshift(x, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))
