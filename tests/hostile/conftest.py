"""What the tests of interruptions and of full disks share: a warm process, inputs, and undisturbed results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import write_tiny_volume
from tests.hostile.stopped import SHORT, listing, results, start
from tests.hostile.warm import Run, Warm


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    process = Warm()
    yield process
    process.close()


@pytest.fixture(scope="session")
def inputs(warm, tmp_path_factory) -> Path:
    """Five scans, an image, raw data, and the weights of an original, an oracle and an unlearned network."""
    root = tmp_path_factory.mktemp("inputs")
    sections = {"training": "bbbk", "validation": "b", "test": "bk"}
    lists: dict[str, list] = {}
    for section, letters in sections.items():
        for number, letter in enumerate(letters):
            name = f"{section}-{number}.h5"
            write_tiny_volume(root / name, len(name) * 100 + number, upright=letter == "b")
            anatomy = {"b": "brain", "k": "knee"}[letter]
            lists.setdefault(section, []).append({"kspace": name, "anatomy": anatomy, "patient_id": name})
    (root / "datalist.json").write_text(json.dumps(lists))
    (root / "licence.txt").write_text("A licence.")
    (root / "raw").mkdir()
    for number in range(4):
        write_tiny_volume(root / "raw" / f"raw_{number}.h5", 50 + number)
    values = np.random.default_rng(0).uniform(0.5, 1, (96, 96, 48)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), root / "image.nii")
    for name in ("original", "oracle"):
        settings = {**SHORT, "train_epochs": 1, "resume": "false", "oracle": str(name == "oracle")}
        _done(start(warm, "train", root, root / f"run-{name}", **settings))
        for suffix in (".pt", ".json"):
            shutil.copy(root / f"run-{name}" / f"{name}{suffix}", root / f"{name}{suffix}")
    settings = {"unlearn_epochs": 1, "resume": "false", "check_values": "true"}  # later runs find them checked
    _done(start(warm, "unlearn", root, root / "unlearned", **settings))
    _done(start(warm, "inference", root, root / "images", formats="dicom"))
    return root


def _done(run: Run) -> None:
    assert run.finish() == 0, run.says()


@pytest.fixture(scope="session")
def undisturbed(warm, inputs, tmp_path_factory):
    """Of each verb, by its name: the results, every file, and the number of steps of a run without a stop."""
    made: dict[str, tuple[dict[str, str], set[str], int]] = {}

    def of(verb: str) -> tuple[dict[str, str], set[str], int]:
        if verb not in made:
            output = tmp_path_factory.mktemp(verb) / "out"
            _done(whole := start(warm, verb, inputs, output))
            made[verb] = results(verb, output), listing(output), len(whole.steps())
        return made[verb]

    return of
