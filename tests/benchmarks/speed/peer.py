"""fastMRI's package in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

FASTMRI = "fastmri==0.3.0"
# what its networks and data sets import; its other dependencies (Lightning, torchvision) are not needed
NEEDED = ("numpy", "h5py", "runstats", "pyyaml", "pandas", "requests", "tqdm")
CHECK = "import fastmri.data, fastmri.models"


def find_peer(python: str | None, folder: Path) -> str | None:
    """Interpreter that has fastMRI: the given one, or one of a virtual environment in ``folder``, made if missing.

    Returns None, after saying why, where it cannot be made.

    Raises:
        ValueError: the given interpreter has no fastMRI.
    """
    if python is not None:
        found = subprocess.run([python, "-W", "ignore", "-c", CHECK], capture_output=True, text=True)
        if found.returncode:
            raise ValueError(f"{python}: expected an interpreter that imports fastmri, found: {found.stderr[-500:]}")
        return str(Path(python).absolute())
    made = folder.absolute() / "bin" / "python"
    try:
        if not made.exists() or subprocess.run([made, "-W", "ignore", "-c", CHECK], capture_output=True).returncode:
            _make(folder, made)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"no environment with {FASTMRI} ({error}): its columns are left out", file=sys.stderr)
        return None
    return str(made)


def _make(folder: Path, python: Path) -> None:
    version = torch.__version__.partition("+")[0]  # the same PyTorch as ours
    pip = [python, "-m", "pip", "install", "--quiet"]
    print(f"making an environment with {FASTMRI} and torch {version} in {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([*pip, f"torch=={version}", *NEEDED], check=True)
    subprocess.run([*pip, "--no-deps", FASTMRI], check=True)
    subprocess.run([python, "-W", "ignore", "-c", CHECK], check=True)
