"""The manifest names whatever was changed."""

import os
import shutil
import subprocess
import sys

import pytest

from scripts.shipping.manifest import BundleError, verify_bundle, verify_shipped, write_manifest


@pytest.fixture
def bundle(shipped, tmp_path):
    return shutil.copytree(shipped, tmp_path / "bundle")


def test_as_shipped(shipped):
    files = verify_bundle(shipped)
    on_disk = {path.relative_to(shipped).as_posix() for path in shipped.rglob("*") if path.is_file()}
    assert set(files) == {name for name in on_disk if "__pycache__" not in name} - {"manifest.json"}
    assert {"LICENSE", "models/model.pt", "models/model.ts", "scripts/networks/varnet.py"} <= set(files)


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_flipped_byte_in_any_file_is_named(bundle, where):
    files = [path for path in sorted(bundle.rglob("*")) if path.is_file() and path.stat().st_size]
    for path in files:
        if path.name != "manifest.json":
            flip(path, where)
    with pytest.raises(BundleError) as error:
        verify_bundle(bundle)
    named = [problem.partition(":")[0] for problem in str(error.value).partition("shipped: ")[2].split("; ")]
    assert named == [name for path in files if (name := path.relative_to(bundle).as_posix()) != "manifest.json"]
    flip(bundle / "manifest.json", where)
    with pytest.raises(BundleError, match="manifest.json: changed"):
        verify_bundle(bundle)


def flip(path, where):
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def test_missing_and_added_files_are_named(bundle):
    (bundle / "LICENSE").unlink()
    (bundle / "scripts" / "extra.py").write_text("")
    (bundle / "configs" / "manifest.json").write_text("{}")
    (bundle / "outputs").mkdir()
    (bundle / "outputs" / "image.nii.gz").touch()
    with pytest.raises(BundleError) as error:
        verify_bundle(bundle)
    problems = str(error.value).partition("shipped: ")[2].split("; ")
    added = ["configs/manifest.json: not in the manifest", "scripts/extra.py: not in the manifest"]
    assert problems == ["LICENSE: missing", *added]


def test_without_a_manifest(bundle, tmp_path):
    (bundle / "manifest.json").unlink()
    with pytest.raises(BundleError, match="manifest.json: missing"):
        verify_shipped(bundle)
    (tmp_path / "source").mkdir()
    verify_shipped(tmp_path / "source")


def test_empty_files_count(tmp_path):
    (tmp_path / "empty").touch()
    write_manifest(tmp_path)
    (tmp_path / "empty").write_text("x")
    with pytest.raises(BundleError, match="empty: changed"):
        verify_bundle(tmp_path)


def test_command(bundle):
    command = [sys.executable, "-m", "scripts.shipping.manifest", str(bundle)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(bundle), os.environ.get("PYTHONPATH")])),
    }
    done = subprocess.run(command, cwd=bundle, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (bundle / "LICENSE").write_text("none")
    done = subprocess.run(command, cwd=bundle, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "LICENSE: changed" in done.stderr
