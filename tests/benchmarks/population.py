"""Real anatomy of many people as semi-synthetic k-space, from a folder of NIfTI images outside the project."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from scripts.phantoms import Simulation

FOLDER = "MRI_UNLEARNING_POPULATION"
"""Environment variable: a folder with ``images.json``, the setting ``images`` of ``simulate``, paths relative to it."""


def population_datalist(output_dir: str = "outputs/population", matrix: tuple[int, int] = (96, 80)) -> str:
    """Simulate the scans once and return the path of their datalist; other images or settings get another folder.

    Raises:
        ValueError: the environment variable does not name a folder with ``images.json``.
    """
    folder = Path(os.environ.get(FOLDER, ""))
    listing = folder / "images.json"
    if not os.environ.get(FOLDER) or not listing.is_file():
        raise ValueError(f"{FOLDER}: expected a folder with images.json, found {os.environ.get(FOLDER)!r}")
    text = listing.read_text(encoding="utf-8")
    target = Path(output_dir) / hashlib.sha256(f"{matrix} {text}".encode()).hexdigest()[:12]
    if (target / "datalist.json").is_file():
        return str(target / "datalist.json")
    images = [{**entry, "image": str(folder / entry["image"])} for entry in json.loads(text)]
    return Simulation(images, target, num_coils=4, snr=40.0, matrix=matrix, slices_per_volume=1).write()
