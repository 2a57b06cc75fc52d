"""SHA-256 of large files, kept between runs beside the size and the times of the file."""

from __future__ import annotations

import json
import logging
import os
from functools import cache
from pathlib import Path
from typing import Any

from scripts.run.files import CACHE_VARIABLE, cache_root, file_sha256, json_sha256, write_text

logger = logging.getLogger(__name__)


def known_sha256(path: str | Path) -> str:
    """The kept hash of a file that has not changed since, else the hash of its bytes, which is then kept.

    A file is taken for unchanged by its path, size, inode, and the times of its last change of content and of status,
    in nanoseconds. Whoever edits a file can set the first of these times, and the system sets the second. Whoever can
    write the cache, or the disk beneath the file system, can deceive this function: so a run takes the hash of all that
    it reads anew, beside its work, and ends without results where that differs
    (:meth:`scripts.training.file_hashes.FileHashes.refuse_changed`).
    """
    entry = kept(path)
    if entry is not None:
        return entry["sha256"]
    before = status(path)
    digest = file_sha256(path)
    keep(path, before, digest)
    return digest


def kept(path: str | Path) -> dict[str, Any] | None:
    """What is kept of a file, its ``sha256`` first of all; None where it is new or has changed."""
    try:
        entry = json.loads(_entry(path).read_text(encoding="utf-8"))
        digest, stated = str(entry["sha256"]), entry["status"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none, or no longer whole
    return {**entry, "sha256": digest} if stated == status(path) else None


def keep(path: str | Path, before: dict[str, int], digest: str, **facts: Any) -> None:
    """Keep the hash of a file, and other facts about its bytes, unless it has changed since ``before``.

    Args:
        path: The file.
        before: Its :func:`status` before it was read.
        digest: Its SHA-256.
        facts: Plain JSON.
    """
    if status(path) != before:
        return
    try:
        _entry(path).parent.mkdir(parents=True, exist_ok=True)
        write_text(_entry(path), json.dumps({"status": before, "sha256": digest, **facts}) + "\n")
    except OSError as error:
        _warn(str(cache_root()), str(error))


@cache  # once for each folder
def _warn(folder: str, error: str) -> None:
    logger.warning(
        "%s: hashes of files cannot be kept there (%s); name another folder: %s", folder, error, CACHE_VARIABLE
    )


def status(path: str | Path) -> dict[str, int]:
    """By what a file is taken for unchanged."""
    found = os.stat(path)
    return {
        "bytes": found.st_size,
        "inode": found.st_ino,
        "changed_ns": found.st_mtime_ns,
        "status_changed_ns": found.st_ctime_ns,
    }


def _entry(path: str | Path) -> Path:
    """The file of a path's entry, whose name does not tell the path."""
    return cache_root() / "files" / f"{json_sha256(os.path.realpath(path))}.json"
