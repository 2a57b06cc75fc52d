"""Reconstruction to NIfTI runs where nothing is installed but what the bundle requires and what that needs itself."""

import contextlib
import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import nibabel as nib
import pytest

from scripts.run.errors import message_of
from tests.conftest import CROP, write_tiny_volume
from tests.verbs import CONFIGS

BUNDLE = CONFIGS.parent
METADATA = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))


def needed(*packages: str) -> set[str]:
    """The distributions that these need themselves, with theirs."""
    found: set[str] = set()
    waiting = list(packages)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        with contextlib.suppress(PackageNotFoundError):
            waiting += [re.match(r"[\w.-]+", line)[0] for line in requires(name) or () if "extra ==" not in line]
            found.add(name)
    return found


PRESENT = needed("monai", "torch", "numpy", *METADATA["required_packages_version"])
ABSENT = tuple(
    sorted(
        module
        for module, owners in packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} & PRESENT
        and module not in ("scripts", "mri_unlearning", "tests")
    )
)
WITHOUT = f"""
import sys, runpy

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
module = sys.argv.pop(1)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
"""Runs a module as ``python -m`` does, where the packages above cannot be imported."""


def without(module: str, *words: str, cwd) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": f"{BUNDLE.parent}:{BUNDLE}", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", WITHOUT, module, *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_inference_runs_on_the_required_packages_alone(tmp_path):
    (tmp_path / "data").mkdir()
    write_tiny_volume(tmp_path / "data" / "a.h5", 0)
    words = ["run", "--config_file", str(CONFIGS / "inference.json"), "--meta_file", str(CONFIGS / "metadata.json")]
    done = without("monai.bundle", "run", *words, "--bundle_root", str(BUNDLE), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    image = nib.load(tmp_path / "outputs" / "inference" / "a.nii.gz")
    assert sorted(image.shape) == sorted((*CROP, 2))


@pytest.mark.parametrize(("module", "package"), [("skimage.metrics", "scikit-image"), ("matplotlib", "matplotlib")])
def test_a_package_that_is_missing_is_named_with_the_command(module, package):
    error = ModuleNotFoundError(f"No module named {module!r}", name=module)
    told = message_of(error)
    assert told == f"No module named {module!r}: expected the package {package}: pip install {package}"
    assert "pip" not in message_of(ModuleNotFoundError("No module named 'scripts.x'", name="scripts.x"))


@pytest.mark.parametrize("module", ["scripts.run.config", "matplotlib"])
def test_the_packages_are_out_of_reach(module, tmp_path):
    """Of two modules the one that needs an absent package fails: the test above can fail."""
    done = without(module, cwd=tmp_path)
    assert ("No module named 'matplotlib'" in done.stderr) == (module == "matplotlib")
    assert (done.returncode == 0) == (module != "matplotlib")
