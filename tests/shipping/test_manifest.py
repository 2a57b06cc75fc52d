"""The manifest names whatever was changed."""

import compileall
import importlib.util
import marshal
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import scripts
from scripts.run.manifest import BundleError, verify_bundle, verify_shipped, write_manifest


@pytest.fixture
def bundle(shipped, tmp_path):
    return shutil.copytree(shipped, tmp_path / "bundle")


def test_as_shipped(shipped):
    files = verify_bundle(shipped)
    on_disk = {path.relative_to(shipped).as_posix() for path in shipped.rglob("*") if path.is_file()}
    assert set(files) == {name for name in on_disk if "__pycache__" not in name} - {"manifest.json"}
    assert {"LICENSE", "models/model.pt", "models/model.pt2", "models/model.ts"} <= set(files)


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


@pytest.mark.parametrize("name", ["models/original.pt", "models/deep/er/model.pt", "Models/model.pt", "model.PT"])
def test_weights_that_the_manifest_does_not_list(bundle, name):
    """The original beside the unlearned weights, in a folder of its own, in other letters, or at the top."""
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bundle / "models" / "model.pt", bundle / name)
    with pytest.raises(BundleError, match=f"{name}: not in the manifest"):
        verify_bundle(bundle)


def test_without_a_manifest(bundle, tmp_path):
    (bundle / "manifest.json").unlink()
    with pytest.raises(BundleError, match="manifest.json: missing"):
        verify_shipped(bundle)
    shutil.rmtree(bundle / "scripts")
    with pytest.raises(BundleError, match="manifest.json: missing"):
        verify_shipped(bundle)
    verify_shipped(Path(scripts.__file__).parents[1] / "bundle")  # the source tree


def link_to_a_folder(bundle, elsewhere):
    (elsewhere / "evil.py").write_text("")
    (bundle / "scripts" / "linked").symlink_to(elsewhere, target_is_directory=True)
    return "scripts/linked: not in the manifest"


def folder_for_a_link(bundle, elsewhere):
    shutil.copytree(bundle / "scripts", elsewhere / "scripts")
    shutil.rmtree(bundle / "scripts")
    (bundle / "scripts").symlink_to(elsewhere / "scripts", target_is_directory=True)
    return "scripts/__init__.py: a link"


def link_to_a_file(bundle, elsewhere):
    shutil.copyfile(bundle / "LICENSE", elsewhere / "LICENSE")
    (bundle / "LICENSE").unlink()
    (bundle / "LICENSE").symlink_to(elsewhere / "LICENSE")
    return "LICENSE: a link"


def planted_bytecode(bundle, elsewhere):
    """Bytecode of other code under the time and size of the source, which Python runs in its place."""
    source = bundle / "scripts" / "run" / "files.py"
    header = (
        importlib.util.MAGIC_NUMBER + bytes(4) + struct.pack("<II", int(source.stat().st_mtime), source.stat().st_size)
    )
    cache = Path(importlib.util.cache_from_source(str(source)))
    cache.parent.mkdir(exist_ok=True)
    cache.write_bytes(header + marshal.dumps(compile("print('planted')", "files.py", "exec")))
    return f"{cache.relative_to(bundle)}: not in the manifest"


def bytecode_of_nothing(bundle, elsewhere):
    cache = bundle / "scripts" / "__pycache__" / "evil.cpython-311.pyc"
    cache.parent.mkdir(exist_ok=True)
    cache.write_bytes(b"")
    return "scripts/__pycache__/evil.cpython-311.pyc: not in the manifest"


def no_scripts(bundle, elsewhere):
    shutil.rmtree(bundle / "scripts")
    return "scripts/__init__.py: missing"


def module_beside(bundle, elsewhere):
    """The bundle's folder comes first on Python's path."""
    (bundle / "h5py.py").write_text("")
    return "h5py.py: not in the manifest"


def package_beside(bundle, elsewhere):
    (bundle / "torch").mkdir()
    (bundle / "torch" / "__init__.py").write_text("")
    return "torch/__init__.py: not in the manifest"


@pytest.mark.parametrize(
    "attack",
    [
        link_to_a_folder, folder_for_a_link, link_to_a_file, planted_bytecode, bytecode_of_nothing, no_scripts,
        module_beside, package_beside,
    ],
)  # fmt: skip
def test_what_would_run_or_be_read_in_place_of_the_bundle_is_named(bundle, tmp_path, attack):
    (tmp_path / "elsewhere").mkdir()
    message = attack(bundle, tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=re.escape(message)):
        verify_shipped(bundle)


def test_a_program_that_is_run_on_request_alone_is_no_harm(bundle):
    (bundle / "__main__.py").write_text("")
    verify_shipped(bundle)


def test_what_python_makes_of_the_sources_is_no_harm(bundle):
    for level in (0, 1, 2):
        compileall.compile_dir(bundle / "scripts", quiet=2, optimize=level, legacy=False)
    assert list(bundle.rglob("*.opt-2.pyc"))
    verify_shipped(bundle)


def test_empty_files_count(tmp_path):
    (tmp_path / "empty").touch()
    write_manifest(tmp_path)
    (tmp_path / "empty").write_text("x")
    with pytest.raises(BundleError, match="empty: changed"):
        verify_bundle(tmp_path)


def test_command(bundle):
    command = [sys.executable, "-m", "scripts.run.manifest", str(bundle)]
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


def test_what_macos_adds_is_passed_over_and_nothing_else_with_a_dot(bundle):
    for name in (".DS_Store", "configs/.DS_Store", "docs/._README.md", "scripts/._start.py"):
        (bundle / name).write_bytes(b"\0\5\x16\7")
    verify_bundle(bundle)
    for name in ("configs/.hidden", "scripts/.DS_Store.py", "docs/DS_Store"):
        (bundle / name).touch()
    (bundle / "scripts" / "._link").symlink_to(bundle / "LICENSE")
    with pytest.raises(BundleError) as error:
        verify_bundle(bundle)
    named = {problem.partition(":")[0] for problem in str(error.value).partition("shipped: ")[2].split("; ")}
    assert named == {"configs/.hidden", "scripts/.DS_Store.py", "docs/DS_Store", "scripts/._link"}
