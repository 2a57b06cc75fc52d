"""A datalist of the paper's proportions from a fastMRI download.

From a shell:
    python -m scripts.data.fastmri_datalist --output datalist.json \
        --brain_train multicoil_train_brain --brain_val multicoil_val_brain \
        --knee_train multicoil_train_knee --knee_val multicoil_val_knee
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.data.volumes import SUFFIXES, Volume, files_below, inspect_volume
from scripts.run.files import write_text

logger = logging.getLogger(__name__)


def fastmri_datalist(  # noqa: PLR0913 each argument is an option of the command line
    output: str | Path,
    brain_train: str,
    brain_val: str,
    knee_train: str,
    knee_val: str,
    brain_acquisition: str = "AXT2",
    retain_slices: int = 5898,
    ratio: float = 10,
    validation_slices: int = 1198,
    test_volumes: int = 100,
    seed: int = 0,
) -> None:
    """Write a datalist: T2 brain to retain, knee to forget, test volumes of both.

    Whole volumes are drawn at random until the stated number of slices is reached. Validation and test volumes come
    from fastMRI's validation folders, which carry reference images. No patient is in two lists.

    Args:
        output: The JSON file to write; paths in it are relative to its folder.
        brain_train: The folder of fastMRI's multi-coil brain training files.
        brain_val: The folder of its brain validation files.
        knee_train: The folder of its knee training files.
        knee_val: The folder of its knee validation files.
        brain_acquisition: The ``acquisition`` attribute of the brain volumes.
        retain_slices: The number of brain slices to train on.
        ratio: The number of brain slices to one knee slice in training.
        validation_slices: The number of brain slices to validate on.
        test_volumes: The number of volumes to test on, of each organ.
        seed: The seed of the draw.

    Raises:
        FileNotFoundError, ValueError: A folder is missing or holds too little; the message names it.
    """
    rng = np.random.default_rng(seed)
    patients: set[str] = set()
    brains, knees = _Pool(brain_train, "brain", rng, brain_acquisition), _Pool(knee_train, "knee", rng)
    training = [
        *brains.take(retain_slices, "slices", patients),
        *knees.take(retain_slices / ratio, "slices", patients),
    ]
    brains, knees = _Pool(brain_val, "brain", rng, brain_acquisition), _Pool(knee_val, "knee", rng)
    test = [pair for pool in (brains, knees) for pair in pool.take(test_volumes, "volumes", patients)]
    validation = brains.take(validation_slices, "slices", patients)
    lists = {"training": training, "validation": validation, "test": test}
    root = Path(output).resolve().parent
    content = {name: [_entry(volume, anatomy, root) for volume, anatomy in part] for name, part in lists.items()}
    write_text(output, json.dumps(content, indent=1) + "\n")
    for name, part in lists.items():
        logger.info("%s: %d volumes, %d slices", name, len(part), sum(volume.num_slices for volume, _ in part))


class _Pool:
    """Volumes of one folder in random order, each given out once."""

    def __init__(self, folder: str, anatomy: str, rng: np.random.Generator, acquisition: str | None = None) -> None:
        files = files_below(folder) if Path(folder).is_dir() else []
        if not files:
            raise FileNotFoundError(f"{folder}: expected fastMRI files ({', '.join(SUFFIXES)}), found none")
        self.folder, self.anatomy = folder, anatomy
        options: dict[str, Any] = {"desc": f"reading {folder}", "unit": "file", "dynamic_ncols": True}
        self._volumes = (
            volume
            for volume in map(inspect_volume, tqdm([files[i] for i in rng.permutation(len(files))], **options))
            if acquisition is None or volume.fields.get("acquisition") == acquisition
        )

    def take(self, wanted: float, what: str, patients: set[str]) -> list[tuple[Volume, str]]:
        """Volumes of patients who are not among these, until there are so many ``slices`` or ``volumes``."""
        taken: list[tuple[Volume, str]] = []
        while sum(volume.num_slices if what == "slices" else 1 for volume, _ in taken) < wanted:
            volume = next((v for v in self._volumes if v.patient_id not in patients), None)
            if volume is None:
                expected = f"expected enough volumes for {wanted:.0f} {what}, found too few"
                raise ValueError(f"{self.folder}: {self.anatomy}: {expected}")
            taken.append((volume, self.anatomy))
        patients |= {volume.patient_id for volume, _ in taken} - {""}
        return taken


def _entry(volume: Volume, anatomy: str, root: Path) -> dict[str, str]:
    entry = {"kspace": os.path.relpath(Path(volume.path).resolve(), root), "anatomy": anatomy}
    return entry | ({"patient_id": volume.patient_id} if volume.patient_id else {})


if __name__ == "__main__":
    from scripts.run.program import program

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    program(fastmri_datalist)
