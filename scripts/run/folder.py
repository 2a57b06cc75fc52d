"""The folder of a run's outputs: opened once, by one run at a time, and never overwritten silently."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from filelock import BaseFileLock, Timeout

from scripts.run.files import check_disk_space, existing_part, let_go, take_lock

OUTPUT_BYTES = 50_000_000  # log, TensorBoard, tables and pictures
MOST_NAMED = 20  # of the files that a run has kept


class RunFolder:
    """What a run writes, where, and what must not be lost.

    Args:
        path: The folder.
        log: Name of the log file in it, which is appended to; None: no log.
        results: Names of the files that the run makes. Where one is there already, the run is refused, unless it is to
            be continued or replaced.
        inputs: Files that the run reads; none of them may be one of the results. None and False stand for no file.
        network: Its size tells how much disk the weights need; None: no weights are written.
        checkpoint: Name of the file from which a stopped run continues.
        resume: Continue from the checkpoint, if there is one, and keep one. Without a checkpoint file: the run, started
            again, continues of its own accord.
        overwrite: Replace the results that are there.
        beside: Write log and lock beside the folder, which the run makes itself and which must be absent or empty.
    """

    def __init__(
        self,
        path: str | Path,
        log: str | None = None,
        results: Iterable[str] = (),
        inputs: Iterable[str | bool | None] = (),
        network: torch.nn.Module | None = None,
        checkpoint: str | None = None,
        resume: bool = False,
        overwrite: bool = False,
        beside: bool = False,
    ) -> None:
        self.path = Path(path)
        self.home, name = (self.path.parent, f".{self.path.name}.lock") if beside else (self.path, ".lock")
        self.partial = f".partial-{self.path.name}-*" if beside else ".partial-*"
        self.log = None if log is None else self.home / log
        self.results = [self.path / result for result in results]
        self.inputs = [Path(file) for file in inputs if isinstance(file, str)]
        self.checkpoint = None if checkpoint is None else self.path / checkpoint
        self.resume, self.overwrite = resume, overwrite
        weights = 0 if network is None else sum(t.nbytes for t in network.state_dict().values())
        self.needed = OUTPUT_BYTES + (11 if resume else 3) * weights  # temporary files and optimizer states included
        self._lock_file = self.home / name
        self._lock: BaseFileLock | None = None
        self.handler: logging.Handler | None = None
        self._made: list[Path] = []  # folders that were not there before
        self._before: dict[Path, int] = {}  # the files that were there, and when each was written

    def check(self) -> None:
        """Check what can be known before the run; nothing is written.

        Raises:
            ValueError: An input would be overwritten.
            FileExistsError: Results of another run, which are neither to be continued nor to be replaced.
            OSError: No folder, not writable, or not enough disk.
        """
        for file in self.inputs:
            if any(result.exists() and file.exists() and result.samefile(file) for result in self.results):
                raise ValueError(f"'output_dir': {self.path}: the run would overwrite its own input {file}")
        check_writable(self.home)
        check_disk_space(self.home, self.needed)
        there = [result.name for result in self.results if result.exists()]
        unfinished = self.checkpoint is not None and self.checkpoint.exists()
        if self.overwrite or (unfinished and self.resume):
            return
        if unfinished and self.checkpoint is not None:
            raise FileExistsError(
                f"'output_dir': {self.path} holds a run that was stopped ({self.checkpoint.name}): add --resume true "
                "to continue it, or --overwrite true to replace it"
            )
        if there:
            raise FileExistsError(
                f"'output_dir': {self.path} holds the results of a run already ({', '.join(there)}): choose another "
                "--output_dir, or add --overwrite true to replace them"
            )

    def open(self) -> None:
        """Take the folder: lock it, check it again, remove what a killed or replaced run left, open the log.

        Raises:
            FileExistsError: Another run is at work in it; or as :meth:`check`.
        """
        self._made = [folder for folder in (self.home, *self.home.parents) if not folder.exists()]
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = take_lock(self._lock_file, wait=False)
        except Timeout:
            raise FileExistsError(
                f"'output_dir': {self.path}: another run is at work in this folder (its lock: {self._lock_file})"
            ) from None
        try:
            self.check()
        except BaseException:
            self.close()
            raise
        for left in self._left_over():
            _remove(left)
        if self.overwrite and not (self.resume and self.checkpoint is not None and self.checkpoint.exists()):
            for file in [*self.results, *([self.checkpoint] if self.checkpoint else [])]:
                _remove(file)
        self._before = {} if self.results or self.resume else self._written()
        if self.log is not None:
            self.handler = _Log(self.log, encoding="utf-8")
            self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
            logging.getLogger().addHandler(self.handler)

    def _left_over(self) -> list[Path]:
        """What a killed run was writing; folders in which another run is at work are left alone."""
        if self.partial != ".partial-*":
            return list(self.home.glob(self.partial))

        def is_anothers(path: Path) -> bool:
            return any((folder / ".lock").exists() for folder in path.parents if self.home in folder.parents)

        return [path for path in self.home.rglob(self.partial) if not is_anothers(path)]

    def close(self) -> None:
        """Let the folder go."""
        if self.handler is not None:
            logging.getLogger().removeHandler(self.handler)
            with contextlib.suppress(OSError):  # a full disk, of which the run has spoken
                self.handler.close()
            self.handler = None
        if self._lock is not None:
            let_go(self._lock)
        for folder in self._made:  # by a run that wrote nothing
            with contextlib.suppress(OSError):
                folder.rmdir()

    def kept(self) -> str:
        """What a run that stopped leaves, and how to go on."""
        return " ".join(self._kept())

    def _kept(self) -> Iterator[str]:
        there = [result.name for result in self.results if result.exists()]
        if not self.results:  # it is not known before what will be written
            new = [path for path, time in self._written().items() if self._before.get(path) != time]
            there = [path.relative_to(self.path).as_posix() for path in new]
        if len(there) > MOST_NAMED:
            there = [*there[:MOST_NAMED], f"… ({len(there)} files)"]
        yield f"Kept in {self.path}: {', '.join(there)}." if there else f"No result was written to {self.path}."
        if self.resume and self.checkpoint is None:
            yield "What is finished is kept; the same command continues."
        elif self.checkpoint is not None and self.checkpoint.exists():
            yield f"{self.checkpoint.name} is kept; the same command with --resume true continues after its last epoch."
        elif self.checkpoint is not None:
            yield "With --resume true a run that is stopped can be continued."

    def _written(self) -> dict[Path, int]:
        """The files of the folder, without logs, locks and what is half written, and when each was written."""
        files = sorted(path for path in self.path.rglob("*") if path.is_file() and path.suffix != ".log")
        own = [path for path in files if not any(p.startswith(".") for p in path.relative_to(self.path).parts)]
        return {path: path.stat().st_mtime_ns for path in own}


class _Log(logging.FileHandler):
    """A log that is silent where the disk is full: what is written beside it tells."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 logging's name
        """Pass over what could not be written."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def check_writable(folder: Path) -> None:
    """Raise OSError where a folder, which may not exist yet, cannot be written to."""
    existing = existing_part(folder)
    if not existing.is_dir():
        raise NotADirectoryError(f"'output_dir': {folder}: expected a folder, found that {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"'output_dir': {folder}: expected a folder to write to, found {existing} read-only")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
