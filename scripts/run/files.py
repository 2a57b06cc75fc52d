"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLock

FULL = 1 << 20  # bytes free on a disk that is full
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # of a file system without locks
FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CACHE_VARIABLE = "MRI_UNLEARNING_CACHE"


def cache_root() -> Path:
    """The folder for what is made again if it is lost: ``MRI_UNLEARNING_CACHE``, else ``~/.cache/mri-unlearning``.

    A user without a home folder, as in containers that give only a number, has it among the temporary files.
    """
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        home = os.path.join(tempfile.gettempdir(), f"user-{os.getuid()}")
    return Path(os.environ.get(CACHE_VARIABLE) or f"{home}/.cache/mri-unlearning").expanduser()


class DiskFullError(OSError):
    """There was no room for a file; nothing of it was left, and what was there before is as it was."""


@contextlib.contextmanager
def full_disk_told(path: str | Path, part: str | Path | None = None) -> Iterator[None]:
    """Turn what libraries raise on a full disk into one sentence.

    Args:
        path: What is written, for the message.
        part: The temporary file or folder that is written first, whose size tells how much was needed at least.

    Raises:
        DiskFullError: with the path, the bytes needed and the bytes free.
    """
    try:
        yield
    except DiskFullError:
        raise
    except (OSError, RuntimeError) as error:
        free = shutil.disk_usage(existing_part(path)).free
        if getattr(error, "errno", None) not in FULL_ERRORS and free >= FULL:
            raise
        written = _size(Path(part)) if part is not None else 0
        raise DiskFullError(
            f"{path}: the disk is full: expected room for more than {written + free} bytes, found {free} free; nothing "
            "of it is left, what was there before is as it was; free some space and run it again"
        ) from error


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def existing_part(path: str | Path) -> Path:
    """The path or the nearest folder above it that is there."""
    existing = Path(path).resolve()
    while not existing.exists():
        existing = existing.parent
    return existing


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[str]:
    """Yield a temporary name beside ``path``; on success it is renamed to ``path``, on failure removed.

    The temporary name ends with the suffix of ``path``, since some writers choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with full_disk_told(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".partial-{path.stem}-", suffix=path.suffix)
        os.close(handle)
    try:
        with full_disk_told(path, temporary):
            yield temporary
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it becomes ``path``, on failure it is removed.

    A folder that is there already is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".partial-{path.name}-", dir=path.parent))
    try:
        with full_disk_told(path, temporary):
            yield temporary
            temporary.chmod(0o755)
            if path.is_dir():
                shutil.rmtree(path)
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: str | Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all; libraries in C++ report a full disk badly, Python does not."""
    with atomic_write(path) as temporary:
        Path(temporary).write_bytes(content)


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


def json_object(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is none, or a pipe, which would be waited for."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8")) if Path(path).is_file() else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def json_sha256(content: Any) -> str:
    """SHA-256 of JSON content in canonical form (sorted keys, no white space, UTF-8), as hexadecimal digits.

    >>> json_sha256({"b": 1, "a": [2]}) == json_sha256({"a": [2], "b": 1}) != json_sha256({"a": [1], "b": 2})
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_disk_space(folder: str | Path, needed: int) -> None:
    """Raise OSError where the disk of ``folder`` (which may not exist yet) has fewer than ``needed`` bytes free."""
    free = shutil.disk_usage(existing_part(folder)).free
    if free < needed:
        raise OSError(
            f"{folder}: not enough disk for the outputs: expected {needed / 1e6:.0f} MB free, found {free / 1e6:.0f} MB"
        )


def take_lock(path: str | Path, wait: bool = True) -> BaseFileLock:
    """Take a lock file; the end of the process releases it.

    On a file system without locks, such as some network mounts, the file itself is the lock; one that a process of this
    machine left when it was killed is taken over.

    Args:
        path: The lock file; its folder must exist.
        wait: Wait for whoever holds it.

    Raises:
        filelock.Timeout: Someone holds it, and ``wait`` is false.
        OSError: It cannot be made; named.
    """
    lock: BaseFileLock = FileLock(path, thread_local=False)  # whichever thread lets it go
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flock not supported")  # where filelock does the same of its own accord
        try:
            lock.acquire(blocking=wait)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            left = Path(path)
            if left.exists() and left.stat().st_size == 0:  # by the attempt; a lock names its process
                left.unlink()
            lock = SoftFileLock(path, thread_local=False)
            lock.acquire(blocking=wait)
    return lock


@contextlib.contextmanager
def held(path: str | Path, wait: bool = True) -> Iterator[None]:
    """Hold a lock file, see :func:`take_lock`; it is removed at the end."""
    lock = take_lock(path, wait)
    try:
        yield
    finally:
        let_go(lock)


def let_go(lock: BaseFileLock) -> None:
    """Release a lock, if it is held, and remove its file: filelock takes no lock on a file that was removed."""
    if lock.is_locked:
        if not isinstance(lock, SoftFileLock):  # which removes its own
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
