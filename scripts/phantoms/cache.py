"""Folders of generated files: made once, named by their settings, complete or absent."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from scripts.run.files import CACHE_VARIABLE, atomic_folder, cache_root, held


def cached_folder(cache_dir: str | Path | None, kind: str, settings: Mapping, make: Callable[[Path], None]) -> Path:
    """The complete folder of these settings: found, or made under a temporary name and renamed.

    Args:
        cache_dir: The root of the cache; None: the environment variable ``MRI_UNLEARNING_CACHE``, else
            ``~/.cache/mri-unlearning``.
        kind: The start of the folder's name; the hash of ``settings`` follows.
        settings: Everything that decides the contents, in types that JSON can hold.
        make: The function that fills the folder it is given.

    A folder that has lost a file is made again. Of two processes that want the same folder, the second one waits.
    """
    root = Path(cache_dir).expanduser() if cache_dir else cache_root()
    stamp = json.dumps(settings, sort_keys=True)
    folder = root / f"{kind}-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
    if _complete(folder):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not os.access(root, os.W_OK | os.X_OK):
            raise PermissionError("one that cannot be written to")
        if folder.exists() and not folder.is_dir():
            raise FileExistsError(f"a file in place of the folder {folder.name}")
    except OSError as error:
        raise OSError(
            f"{root}: expected a folder to keep files in, found {error}; name another: {CACHE_VARIABLE}"
        ) from error
    with held(root / f".{folder.name}.lock"):
        if _complete(folder):
            return folder
        for left in root.glob(f".partial-{folder.name}-*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        with atomic_folder(folder) as temporary:
            make(temporary)
            files = sorted(str(file.relative_to(temporary)) for file in temporary.rglob("*") if file.is_file())
            (temporary / "complete.json").write_text(json.dumps({"settings": settings, "files": files}, indent=2))
    return folder


def _complete(folder: Path) -> bool:
    """Whether every file that was made is still there."""
    try:
        files = json.loads((folder / "complete.json").read_text())["files"]
        return all((folder / file).is_file() for file in files)
    except (OSError, ValueError, KeyError, TypeError):
        return False
