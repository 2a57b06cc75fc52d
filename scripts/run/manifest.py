"""The manifest of a shipped bundle: the SHA-256 of every file, and the check of a folder against it.

From a shell: `python -m scripts.run.manifest FOLDER`.

It finds what was damaged or swapped in part. It is no signature: who can change files can write a new manifest.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import marshal
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from scripts.run.files import atomic_write, file_sha256

MANIFEST = "manifest.json"
CLOSED = ("configs", "docs", "models", "scripts")  # may hold nothing beyond the manifest, however they are spelt
# in the bundle's folder: what Python, which searches it first, would import, and weights that could be named
IMPORTABLE = (
    ".py", ".pyc", ".so", ".pyd", ".pth", ".zip", ".egg", ".pt", ".pt2", ".ts", ".ckpt", ".safetensors", ".onnx",
)  # fmt: skip
SYSTEMS_OWN = re.compile(r"\.DS_Store|\._.*")  # what macOS adds to folders and beside files; nobody imports it
MAIN = "__main__.py"  # run on request alone, never imported: a packaged application has one
SOURCE = Path(__file__).resolve().parents[2] / "bundle"
logger = logging.getLogger(__name__)


class BundleError(ValueError):
    """A bundle that is not what its manifest says."""


def write_manifest(folder: str | Path) -> None:
    """Write ``manifest.json`` over every file of a folder."""
    folder = Path(folder)
    names = [name for name in _entries(folder) if name != MANIFEST and "__pycache__" not in Path(name).parts]
    files = {name: file_sha256(folder / name) for name in names}
    with atomic_write(folder / MANIFEST) as temporary:
        Path(temporary).write_text(_text(files), encoding="utf-8")


def verify_bundle(folder: str | Path) -> dict[str, str]:
    """Check every file of a bundle against its manifest.

    Beyond the manifest there may be files outside `configs`, `docs`, `models` and `scripts` (such as outputs) that
    Python would not import, what macOS adds (:data:`SYSTEMS_OWN`), and what Python itself made of the sources
    (``__pycache__``): bytecode that is not that of its source is refused, as Python would run it in the source's place.

    Returns:
        The manifest: file -> SHA-256.

    Raises:
        BundleError: naming each file that is missing, changed, a link or unknown; or the manifest itself.
    """
    folder = Path(folder)
    files = read_manifest(folder)
    problems = []
    for name, digest in files.items():
        if _is_link(folder, name):
            problems.append(f"{name}: a link, expected a file of the bundle's own")
        elif not (folder / name).is_file():
            problems.append(f"{name}: missing")
        elif (found := file_sha256(folder / name)) != digest:
            problems.append(f"{name}: changed (SHA-256 expected {digest}, found {found})")
    for name in _entries(folder):
        if name not in files and name != MANIFEST and _counts(folder, name) and not _is_own_cache(folder, name, files):
            problems.append(f"{name}: not in the manifest")
    if problems:
        raise BundleError(f"{folder}: not the bundle that was shipped: " + "; ".join(problems))
    return files


def read_manifest(folder: str | Path) -> dict[str, str]:
    """The manifest of a folder: file -> SHA-256.

    Raises:
        BundleError: there is none, or it was changed.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise BundleError(f"{path}: missing: expected the manifest of a shipped bundle")
    try:
        text = path.read_text(encoding="utf-8")
        files = json.loads(text)["files"]
        whole = text == _text(files)
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise BundleError(f"{path}: changed: its content and its own SHA-256 differ")
    return files


def verify_shipped(folder: str | Path) -> None:
    """Check the bundle that is being loaded; in the source tree, which has no manifest, there is nothing to check.

    The source tree is known by this very file, not by what a folder lacks: a bundle without its manifest, without its
    scripts or without both is none.

    Raises:
        BundleError: as :func:`verify_bundle`.
    """
    folder = Path(folder).resolve()
    if folder == SOURCE and not (folder / MANIFEST).is_file():
        logger.debug("%s: source tree, no manifest to check", folder)
        return
    verify_bundle(folder)
    if not Path(__file__).resolve().is_relative_to(folder):
        logger.warning("%s is used instead of the bundle's own scripts", Path(__file__).parents[1])


def is_bundle(folder: str | Path) -> bool:
    """Whether a folder is, or was, a bundle of this kind: what a verb is run from has then to be as it was shipped."""
    return any((Path(folder) / name).exists() for name in (MANIFEST, "configs/metadata.json", "mri_unlearning.py"))


def _entries(folder: Path) -> list[str]:
    """Files and links of a folder, as relative paths; links are not followed."""
    found = []
    for root, folders, names in os.walk(folder):
        paths = [Path(root, name) for name in names] + [Path(root, f) for f in folders if Path(root, f).is_symlink()]
        found += [path.relative_to(folder).as_posix() for path in paths]
    return sorted(found)


def _counts(folder: Path, name: str) -> bool:
    """Whether a file has to be in the manifest: one in a closed folder, or one that Python finds in the bundle's."""
    top, _, below = name.partition("/")
    if SYSTEMS_OWN.fullmatch(Path(name).name) and not (folder / name).is_symlink():
        return False
    if below:
        return top.lower() in CLOSED or (folder / top / "__init__.py").is_file()
    return (folder / name).is_symlink() or (Path(name).suffix.lower() in IMPORTABLE and name != MAIN)


def _is_own_cache(folder: Path, name: str, files: Mapping[str, str]) -> bool:
    """Whether a file is bytecode that this Python made, or would make, of a source that is in the manifest."""
    path = Path(name)
    if path.parent.name != "__pycache__" or path.suffix != ".pyc" or (folder / name).is_symlink():
        return False
    source = (path.parent.parent / f"{path.name.partition('.')[0]}.py").as_posix()
    if source not in files:
        return False
    content = (folder / name).read_bytes()
    if content[:4] != importlib.util.MAGIC_NUMBER:
        return True  # of another Python, which would make its own where it does not fit
    level = path.name.partition(".opt-")[2].partition(".")[0]
    expected = compile(
        (folder / source).read_bytes(), source, "exec", dont_inherit=True, optimize=int(level) if level.isdigit() else 0
    )
    try:
        return bool(marshal.loads(content[16:]) == expected)
    except (ValueError, EOFError, TypeError):
        return False


def _is_link(folder: Path, name: str) -> bool:
    """Whether a file or a folder on the way to it is a link."""
    path = Path(name)
    return any((folder / part).is_symlink() for part in (path, *path.parents) if part != Path("."))


def _text(files: dict[str, str]) -> str:
    """The manifest's only valid text: the digests, and the SHA-256 over them."""
    body = json.dumps(files, sort_keys=True)
    content = {"sha256": hashlib.sha256(body.encode()).hexdigest(), "files": dict(sorted(files.items()))}
    return json.dumps(content, indent=2) + "\n"


def main(folder: str) -> None:
    """Print the number of files that were checked, or end with what is wrong."""
    try:
        print(f"{folder}: {len(verify_bundle(folder))} files as shipped")
    except BundleError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    from scripts.run.program import program

    program(main)
