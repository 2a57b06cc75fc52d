"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import BaseFileLock

FULL = 1 << 20  # bytes free on a disk that is full
CACHE_VARIABLE = "MRI_UNLEARNING_CACHE"


def cache_root() -> Path:
    """The folder for what is made again if it is lost: ``MRI_UNLEARNING_CACHE``, else ``~/.cache/mri-unlearning``."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/mri-unlearning").expanduser()


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[str]:
    """Yield a temporary name beside ``path``; on success it is renamed to ``path``, on failure removed.

    The temporary name ends with the suffix of ``path``, since some writers choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".partial-{path.stem}-", suffix=path.suffix)
    os.close(handle)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, (OSError, RuntimeError)) and shutil.disk_usage(path.parent).free < FULL:
            raise OSError(f"{path}: the disk is full: nothing was written; free some space and try again") from error
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with atomic_write(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def json_sha256(content: Any) -> str:
    """SHA-256 of JSON content in canonical form (sorted keys, no white space, UTF-8), as hexadecimal digits.

    >>> json_sha256({"b": 1, "a": [2]}) == json_sha256({"a": [2], "b": 1}) != json_sha256({"a": [1], "b": 2})
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_disk_space(folder: str | Path, needed: int) -> None:
    """Raise OSError where the disk of ``folder`` (which may not exist yet) has fewer than ``needed`` bytes free."""
    existing = Path(folder).resolve()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise OSError(
            f"{folder}: not enough disk for the outputs: expected {needed / 1e6:.0f} MB free, found {free / 1e6:.0f}"
        )


def let_go(lock: BaseFileLock) -> None:
    """Release a lock, if it is held, and remove its file: filelock takes no lock on a file that was removed."""
    if lock.is_locked:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
