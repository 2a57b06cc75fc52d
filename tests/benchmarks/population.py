"""Real anatomy of many people as semi-synthetic k-space, from a folder of NIfTI images outside the project."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from scripts.phantoms import Simulation

FOLDER = "MRI_UNLEARNING_POPULATION"
"""Environment variable: a folder with ``images.json``, the setting ``images`` of ``simulate``, paths relative to it."""


def population_images() -> list[dict]:
    """The setting ``images`` of ``simulate``, with the images' whole paths.

    Raises:
        ValueError: the environment variable does not name a folder with ``images.json``.
    """
    folder = Path(os.environ.get(FOLDER, ""))
    if not os.environ.get(FOLDER) or not (folder / "images.json").is_file():
        raise ValueError(f"{FOLDER}: expected a folder with images.json, found {os.environ.get(FOLDER)!r}")
    listed = json.loads((folder / "images.json").read_text(encoding="utf-8"))
    return [{**entry, "image": str(folder / entry["image"])} for entry in listed]


def population_datalist(output_dir: str = "outputs/population", matrix: tuple[int, int] = (96, 80)) -> str:
    """Simulate the scans once and return the path of their datalist; other images or settings get another folder.

    Raises:
        ValueError: See :func:`population_images`.
    """
    images = population_images()
    text = (Path(os.environ[FOLDER]) / "images.json").read_text(encoding="utf-8")
    target = Path(output_dir) / hashlib.sha256(f"{matrix} {text}".encode()).hexdigest()[:12]
    if (target / "datalist.json").is_file():
        return str(target / "datalist.json")
    return Simulation(images, target, num_coils=4, snr=40.0, matrix=matrix, slices_per_volume=1).write()
