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
from tests.hostile.warm import Warm


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
    for name, more in {"original": {}, "oracle": {"oracle": "true"}, "unlearned": {"seed": 1}}.items():
        output = root / f"run-{name}"
        output.mkdir()
        settings = {**SHORT, "train_epochs": 1, "resume": "false", **more}
        made = start(warm, "train", root, output, **settings)
        assert made.finish() == 0, made.says()
        shutil.copy(output / f"{'oracle' if name == 'oracle' else 'original'}.pt", root / f"{name}.pt")
    return root


@pytest.fixture(scope="session")
def undisturbed(warm, inputs, tmp_path_factory):
    """The results of each verb, by its name, run once without a stop."""
    made: dict[str, tuple[dict[str, str], set[str]]] = {}

    def of(verb: str) -> tuple[dict[str, str], set[str]]:
        if verb not in made:
            output = tmp_path_factory.mktemp(verb) / "out"
            whole = start(warm, verb, inputs, output, **({"n_jobs": 1} if verb == "protocol" else {}))
            assert whole.finish() == 0, whole.says()
            made[verb] = results(verb, output), listing(output)
        return made[verb]

    return of
