"""The manifest of a shipped bundle: the SHA-256 of every file, and the check of a folder against it.

From a shell: `python -m scripts.shipping.manifest FOLDER`.

It finds what was damaged or swapped in part. It is no signature: who can change files can write a new manifest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from pathlib import Path

from scripts.files import atomic_write, file_sha256

MANIFEST = "manifest.json"
CLOSED = ("configs", "docs", "scripts")  # folders that may hold nothing beyond the manifest; others may gain outputs
logger = logging.getLogger(__name__)


class BundleError(ValueError):
    """A bundle that is not what its manifest says."""


def write_manifest(folder: str | Path) -> None:
    """Write ``manifest.json`` over every file of a folder."""
    folder = Path(folder)
    files = {name: file_sha256(folder / name) for name in _files(folder)}
    with atomic_write(folder / MANIFEST) as temporary:
        Path(temporary).write_text(_text(files), encoding="utf-8")


def verify_bundle(folder: str | Path) -> dict[str, str]:
    """Check every file of a bundle against its manifest.

    Beyond the manifest there may be files outside `configs`, `docs` and `scripts` (such as outputs), and Python's
    ``__pycache__``.

    Returns:
        The manifest: file -> SHA-256.

    Raises:
        BundleError: naming each file that is missing, changed or unknown; or the manifest itself.
    """
    folder = Path(folder)
    files = read_manifest(folder)
    problems = []
    for name, digest in files.items():
        if not (folder / name).is_file():
            problems.append(f"{name}: missing")
        elif (found := file_sha256(folder / name)) != digest:
            problems.append(f"{name}: changed (SHA-256 expected {digest}, found {found})")
    unknown = sorted(set(_files(folder)) - set(files))
    problems += [f"{name}: not in the manifest" for name in unknown if name.partition("/")[0] in CLOSED]
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

    Raises:
        BundleError: as :func:`verify_bundle`.
    """
    folder = Path(folder).resolve()
    if not (folder / "scripts").is_dir():
        logger.info("%s: source tree, no manifest to check", folder)
        return
    verify_bundle(folder)
    if not Path(__file__).resolve().is_relative_to(folder):
        logger.warning("%s is used instead of the bundle's own scripts", Path(__file__).parents[1])


def _files(folder: Path) -> list[str]:
    """Files of a folder, as relative paths, without the manifest and Python's caches."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if path != Path(MANIFEST) and "__pycache__" not in path.parts)


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
    import fire

    fire.Fire(main)
