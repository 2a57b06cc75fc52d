"""Scans whose values were checked before: a second run does not read them again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from functools import cache
from pathlib import Path

from scripts.data.plausibility import check_volume_values, sources
from scripts.data.volumes import Volume, open_volume
from scripts.files import cache_root, file_sha256, json_sha256, write_text

RULES = ("header.py", "plausibility.py", "volumes.py")  # what decides whether a file passes
logger = logging.getLogger(__name__)


def check_once(volume: Volume) -> None:
    """Check a volume's values, see :func:`check_volume_values`, unless this very file has passed before.

    A file that has passed is known again by its path, size, inode, and the times of its last change of content and of
    status, all in nanoseconds; the second of these times is set by the system, not by whoever edits the file. Other
    rules of the check, as after an update, make every file new. Whoever can write the cache, or the disk beneath the
    file system, can pass a file off as checked: then :func:`checked_sha256` differs from the hash that a run takes of
    what it reads, and the run ends without results.

    Raises:
        ValueError: See :func:`check_volume_values`.
    """
    if checked_sha256(volume.path) is not None:
        return
    before = _status(volume.path)
    check_volume_values(volume)
    with open_volume(volume.path) as file:
        elsewhere = [source for key in ("kspace", volume.target_key) if key for source in sources(file[key])]
    if elsewhere:
        return  # the values lie in other files, of which size, times and hash say nothing
    digest = file_sha256(volume.path)
    if _status(volume.path) == before:
        _keep(volume.path, {**before, "rules": _rules(), "sha256": digest})


def checked_sha256(path: str | Path) -> str | None:
    """SHA-256 of the file as it was when it passed the check; None where this file has not passed."""
    try:
        kept = json.loads(_entry(path).read_text(encoding="utf-8"))
        digest = str(kept.pop("sha256"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # none, or no longer whole: the file is checked again
    return digest if kept == {**_status(path), "rules": _rules()} else None


def _keep(path: str | Path, content: dict) -> None:
    try:
        _entry(path).parent.mkdir(parents=True, exist_ok=True)
        write_text(_entry(path), json.dumps(content) + "\n")
    except OSError as error:
        logger.warning("%s: that it was checked could not be kept: %s", path, error)


def _entry(path: str | Path) -> Path:
    """The file of a path's entry, whose name does not tell the path."""
    return cache_root() / "checked" / f"{json_sha256(os.path.realpath(path))}.json"


def _status(path: str | Path) -> dict[str, int]:
    status = os.stat(path)
    return {
        "bytes": status.st_size,
        "inode": status.st_ino,
        "changed_ns": status.st_mtime_ns,
        "status_changed_ns": status.st_ctime_ns,
    }


@cache
def _rules() -> str:
    digest = hashlib.sha256()
    for name in RULES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()
