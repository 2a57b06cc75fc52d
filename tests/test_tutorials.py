"""Every tutorial from top to bottom, as its reader runs it, in a folder where nothing else lies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TUTORIALS = ROOT / "bundle" / "docs" / "tutorials"
ENDS = {  # what each prints near its end, and a file that it leaves
    "own_data": ("image: (1, 1, 64, 64) reference: (1, 1, 64, 64)", "outputs/2026-017/report.html"),
    "own_network": (
        "exact with {'class': 'my_network.Denoiser'",
        "outputs/ship/mri_reconstruction_unlearning/manifest.json",
    ),
    "own_method": ("ZeroLabel is not known to read nothing but retained scans", "outputs/demo-knee/unlearned.pt"),
    "study": ("panels.png", "outputs/protocol/report.html"),
}


def test_every_tutorial_is_run():
    assert {path.stem for path in TUTORIALS.glob("*.py")} == ENDS.keys()


@pytest.mark.parametrize("name", ENDS)
def test_a_tutorial_runs_and_ends_as_it_says(name, tmp_path):
    words, result = ENDS[name]
    python = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'bundle'}", "MRI_UNLEARNING_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, str(TUTORIALS / f"{name}.py")],
        cwd=tmp_path,
        env={**os.environ, **python, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert words in done.stdout
    assert (tmp_path / result).is_file()
