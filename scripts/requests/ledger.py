"""The ledger: an append-only, tamper-evident log of what was ever erased, and which ledger a run belongs to."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, Timeout

from scripts.run.files import json_object, let_go, take_lock
from scripts.run.keys import keyed_hash, make_key, read_key

VERSION = 1
NAME = "ledger.jsonl"
VARIABLE = "MRI_UNLEARNING_LEDGER"
BEGINNING = "begun a ledger"
logger = logging.getLogger(__name__)

Line = dict[str, Any]


class Ledger:
    """A file of JSON lines, each with the hash of the line before it and a keyed hash of its own.

    A changed line no longer agrees with its own keyed hash, which nobody can make anew without the key, a removed or
    exchanged line not with the hash in the next. Lines that are cut off at the end show where something else remembers
    the last one: a run's record does (``ledger``). The key lies beside the file (``.key``) or in the environment
    variable ``MRI_UNLEARNING_KEY``.

    Args:
        path: The file; it need not exist yet.

    Attributes:
        lines: The content of each line.

    Raises:
        ValueError: A line that was changed, named by its number; a key that is missing or of another ledger.

    Example:
        >>> import tempfile
        >>> ledger = Ledger(Path(tempfile.mkdtemp()) / "ledger.jsonl")
        >>> ledger.append("trained", weights_out="5f3a")
        >>> [line["event"] for line in Ledger(ledger.path).lines]
        ['begun a ledger', 'trained']
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.key_path = self.path.with_suffix(".key")
        self.read()

    def read(self) -> None:
        """Read the file as it is now, and check every line."""
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"'ledger': {self.path}: expected a file, found a folder or a device")
        data = self.path.read_bytes() if self.path.is_file() else b""
        whole, _, rest = data.rpartition(b"\n")
        raw = whole.split(b"\n") if whole else []
        if rest:
            logger.warning("%s, line %d: cut off while written; it counts as not written", self.path, len(raw) + 1)
        self._key = read_key(self.key_path if self.key_path.exists() else None)
        if raw and self._key is None:
            raise ValueError(
                f"{self.path}: expected its key in {self.key_path} or in MRI_UNLEARNING_KEY, found neither; without it "
                "nobody can say which patients were erased"
            )
        self._size = len(data) - len(rest)
        self._last = hashlib.sha256(raw[-1]).hexdigest() if raw else None
        self.lines = [self._checked(number, raw) for number in range(1, len(raw) + 1)]

    def hash(self, kind: str, value: str) -> str:
        """Keyed hash (HMAC-SHA256) of a value of some kind, 64 hexadecimal digits."""
        assert self._key is not None, "a ledger without a line has no key yet"
        return keyed_hash(self._key, kind, value)

    def line_hash(self, number: int) -> str | None:
        """SHA-256 of a line, by which a record can remember it; None where there is no such line."""
        raw = self.path.read_bytes().split(b"\n")[:-1] if self.path.is_file() else []
        return hashlib.sha256(raw[number - 1]).hexdigest() if 0 < number <= len(raw) else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until no other run has the ledger, keep others away, and read what they have written."""
        lock = self.lock(wait=True)
        try:
            self.read()
            yield
        finally:
            let_go(lock)

    def lock(self, wait: bool = False) -> BaseFileLock:
        """The lock, taken; the end of the process releases it, however it comes.

        Raises:
            RuntimeError: Another run has the ledger, and this one is not to wait.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return take_lock(self.path.with_name(f".{self.path.name}.lock"), wait)
        except Timeout:
            raise RuntimeError(
                f"{self.path}: another run works with this ledger: expected one at a time; wait for its end"
            ) from None

    def begin(self) -> None:
        """Write the first line, where there is none; the caller holds the lock."""
        if not self.lines:
            self._key = self._key or make_key(self.key_path)
            self.append(BEGINNING, version=VERSION, key_id=self.hash("key", "id")[:16])

    def append(self, event: str, **facts: Any) -> None:
        """Add a line, on the disk when this returns; the caller holds the lock.

        Raises:
            OSError: The disk is full; the file is then as it was.
            RuntimeError: Someone who did not hold the lock has added a line.
        """
        if not self.lines and event != BEGINNING:
            self.begin()
        if self.path.is_file() and self.path.read_bytes().rfind(b"\n") + 1 != self._size:
            raise RuntimeError(f"{self.path}: expected {self._size} bytes as read, found another size; run it again")
        line: Line = {"number": len(self.lines) + 1, "previous": self._last}
        line |= {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **facts}
        line["mac"] = self._mac(line)
        raw = _text(line)
        self._write(raw + b"\n")
        self.lines.append(line)
        self._last = hashlib.sha256(raw).hexdigest()

    def _write(self, data: bytes) -> None:
        new = not self.path.exists()
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.ftruncate(handle, self._size)  # what a write that was cut off has left
            os.lseek(handle, 0, os.SEEK_END)
            try:
                rest = data
                while rest:
                    rest = rest[os.write(handle, rest) :]
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, self._size)
                raise
        finally:
            os.close(handle)
        self._size += len(data)
        if new:
            folder = os.open(self.path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    def _checked(self, number: int, raw: list[bytes]) -> Line:
        where = f"{self.path}, line {number}"
        try:
            line = json.loads(raw[number - 1])
        except ValueError:
            line = None
        if not isinstance(line, dict) or _text(line) != raw[number - 1]:
            raise ValueError(f"{where}: expected a line as the ledger writes it, found another text: it was changed")
        if number == 1 and line.get("key_id") != self.hash("key", "id")[:16]:
            raise ValueError(f"{where}: 'key_id': the key at hand is of another ledger, or the line was changed")
        if not hmac.compare_digest(str(line.get("mac")), self._mac(line)):
            raise ValueError(f"{where}: 'mac': its content does not agree with its keyed hash: it was changed")
        before = hashlib.sha256(raw[number - 2]).hexdigest() if number > 1 else None
        if line.get("previous") != before or line.get("number") != number:
            raise ValueError(
                f"{where}: 'previous': not the hash of the line before: a line was removed, added or exchanged there"
            )
        return line

    def _mac(self, line: Mapping[str, Any]) -> str:
        content = {key: value for key, value in line.items() if key != "mac"}
        return self.hash("line", json.dumps(content, separators=(",", ":")))


def _text(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode()


def find_ledger(output_dir: str | Path) -> str:
    """The ledger of all runs whose folders lie beside each other: one file for what was ever erased.

    Args:
        output_dir: The folder of a run, e.g. ``outputs/2026-017``: the ledger is ``outputs/ledger.jsonl``. Where
            ``MRI_UNLEARNING_LEDGER`` names a file, that one counts for all runs.
    """
    return os.environ.get(VARIABLE) or str(Path(output_dir).absolute().parent / NAME)


def ledger_of(run_dir: str | Path | None) -> str | None:
    """The ledger in which a finished run stands, by its record; None without a run or where it was not entered.

    Args:
        run_dir: The folder that ``unlearn`` wrote.
    """
    if run_dir is None:
        return None
    stated = (json_object(Path(run_dir, "unlearned.json")).get("ledger") or {}).get("path")
    named = None if stated is None else Path(os.path.normpath(Path(run_dir).resolve() / stated))
    return str(named) if named is not None and named.is_file() else None
