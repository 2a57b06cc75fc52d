"""DICOM on its way to an archive: a queue on disk that survives outages and kills."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pydicom
from filelock import Timeout

from scripts.run.files import atomic_folder, held

REFUSED = "refused"
logger = logging.getLogger(__name__)


class OutageError(OSError):
    """The archive cannot be reached or is busy; trying again may help."""


class Archive(Protocol):
    """Where images go."""

    def store(self, paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
        """Store files; yield each that was answered: "" for stored (and committed, where the archive was asked for
        that), or why the archive will never take it.

        Raises:
            OutageError: the others have to be tried again.
        """


class Outbox:
    """Series that wait, each a folder of files; a file is removed once the archive has confirmed it.

    A file whose confirmation was lost is sent again as it is: the archive knows its UID and keeps it once. A series
    appears whole or not at all. What an archive refuses for good is put into the folder ``refused``, with the reason.

    Args:
        folder: Of the queue.
        archive: Where it goes.
        retry_s: Shortest wait after an outage; it doubles up to an hour.
    """

    def __init__(self, folder: str | Path, archive: Archive, retry_s: float = 10) -> None:
        self.folder, self.archive, self.retry_s = Path(folder), archive, retry_s
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, series: str | Path) -> Path:
        """Copy a folder with the files of one series into the queue; one that waits already is not put twice.

        Returns:
            Its place in the queue.

        Raises:
            ValueError: a file that is no DICOM, or of another series than the others.
            OSError: it cannot be written, for want of disk, say; nothing is left behind.
        """
        files = sorted(Path(series).glob("*.dcm"))
        if not files:
            raise FileNotFoundError(f"{series}: expected DICOM files (*.dcm), found none")
        place = self.folder / _series_of(files)
        self.folder.mkdir(parents=True, exist_ok=True)
        with held(self.folder / ".put.lock"):  # one at a time, so that what is left is of a process that was killed
            for left in self.folder.glob(".partial-*"):
                shutil.rmtree(left, ignore_errors=True)
            if not place.exists():
                with atomic_folder(place) as temporary:
                    for file in files:
                        _copy(file, temporary / file.name)
                _sync(self.folder)
        self._wake.set()
        return place

    def waiting(self) -> list[Path]:
        """Files that are not confirmed, the oldest series first."""
        series = [path for path in self.folder.glob("[0-9]*") if path.is_dir()]
        return [file for path in sorted(series, key=_age) for file in sorted(path.glob("*.dcm"))]

    def send(self) -> int:
        """Send what waits and return how many files the archive confirmed.

        Raises:
            OutageError: the archive cannot be reached; what is left waits.
        """
        confirmed = 0
        if not self.folder.is_dir():
            return 0
        try:
            with held(self.folder / ".lock", wait=False):  # one sender at a time
                waiting = self.waiting()
                for path, refusal in self.archive.store(waiting) if waiting else ():
                    if refusal:
                        self._refuse(path, refusal)
                    else:
                        path.unlink()
                        confirmed += 1
                    if not any(path.parent.iterdir()):
                        path.parent.rmdir()
        except Timeout:
            logger.info("%s: another process is sending", self.folder)
        return confirmed

    def start(self) -> None:
        """Send in a thread of its own until :meth:`stop`."""
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the file that is under way."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        wait = self.retry_s
        while not self._stop.is_set():
            self._wake.clear()
            try:
                if confirmed := self.send():
                    logger.info("%s: the archive confirmed %d images", self.folder, confirmed)
                wait, pause = self.retry_s, 60.0
            except Exception as error:  # an outage, or a disk that cannot be read: nothing is lost, so try again
                logger.error("%s: %d images wait: %s", self.folder, len(self.waiting()), error)
                pause, wait = wait, min(2 * wait, 3600)
            self._wake.wait(pause)

    def _refuse(self, path: Path, reason: str) -> None:
        logger.error("%s: the archive refused it: %s", path, reason)
        target = self.folder / REFUSED / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{path.name}.txt").write_text(reason + "\n", encoding="utf-8")
        path.replace(target / path.name)


def _series_of(files: Sequence[Path]) -> str:
    """The SeriesInstanceUID that all files have."""
    found: dict[str, Path] = {}
    for file in files:
        try:
            found[str(pydicom.dcmread(file, stop_before_pixels=True).SeriesInstanceUID)] = file
        except (pydicom.errors.InvalidDicomError, AttributeError, EOFError) as error:
            raise ValueError(f"{file}: expected a DICOM image, found something else: {error}") from error
    if len(found) > 1:
        raise ValueError(f"{files[0].parent}: expected one series, found {' and '.join(map(str, found.values()))}")
    return next(iter(found))


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _copy(source: Path, target: Path) -> None:
    """Copy a file and see it to the disk."""
    with source.open("rb") as content, target.open("wb") as file:
        shutil.copyfileobj(content, file)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
