"""Raw data of scans on disk as they arrive; the series of a finished scan as files, and from there to the router."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from filelock import Timeout

from scripts.inference import ModelIdentity, VolumeWriter
from scripts.inference.raw_volume import RawVolume
from scripts.run.files import held
from scripts.serving.hand_over import HandOver
from scripts.serving.limits import ScanError
from scripts.serving.router import Router
from scripts.serving.scan import DoneSlice, Scan

ARRIVING, DELIVERED, ASIDE = ".mrd", ".delivered", ".aside"
MOST_ATTEMPTS = 10
"""Restarts after which a scan that was not finished is put aside: it may be what ends the server."""
logger = logging.getLogger(__name__)


class BusyFolderError(OSError):
    """Another server writes to the folder."""


class NotWrittenError(ScanError):
    """The disk is full, or cannot be written: the scan is complete, and is tried again."""


def new_name() -> str:
    """Of a scan: date, time and chance."""
    return f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


class RawFile:
    """The raw data of one scan: messages of the MRD protocol, byte by byte as they came, whole messages only.

    ``ismrmrd.serialization.ProtocolDeserializer`` reads the file, and so does this server after a restart.

    Args:
        path: ``NAME.mrd``; after restarts ``NAME.ATTEMPT.mrd``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name, _, attempt = path.stem.partition(".")
        self.attempt = int(attempt or 0)
        self.closed = False  # True: nothing is added any more, for want of disk

    def append(self, parts: Sequence[bytes]) -> None:
        """Add the bytes of a message.

        Raises:
            OSError: the disk is full.
        """
        if not self.closed:
            with self.path.open("ab") as file:
                file.writelines(parts)

    def again(self) -> None:
        """Count an attempt to finish the scan after a restart."""
        self.attempt += 1
        self.path = self.path.replace(self.path.with_name(f"{self.name}.{self.attempt}{ARRIVING}"))

    def delivered(self, keep: bool) -> None:
        """Its series are written: keep it until they are handed over, or not."""
        if keep:
            self.path.replace(self.path.with_name(f"{self.name}{DELIVERED}"))
        else:
            self.path.unlink(missing_ok=True)

    def aside(self, reason: str) -> None:
        """Put it aside, with the reason beside it."""
        try:
            self.path.with_name(f"{self.name}.txt").write_text(reason + "\n", encoding="utf-8")
            place = self.path.replace(self.path.with_name(f"{self.name}{ASIDE}"))
            logger.warning("%s: raw data put aside: %s", place, reason)
        except OSError as error:
            logger.error("%s: raw data could not be put aside: %s", self.path, error)


class RawStore:
    """The folder of raw data.

    Args:
        folder: Of the files.
        days: How long raw data are kept that were put aside, or whose series wait for the router.
    """

    def __init__(self, folder: Path, days: float = 7) -> None:
        self.folder, self.days = folder, days

    def new(self) -> RawFile:
        """A file for a scan that begins.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{new_name()}{ARRIVING}"
        path.touch(0o640, exist_ok=False)
        return RawFile(path)

    def unfinished(self) -> list[RawFile]:
        """Scans that arrive, or that a kill left: those that were tried least often first, of these the oldest."""
        found = [RawFile(path) for path in self.folder.glob(f"*{ARRIVING}")]
        return sorted(found, key=lambda raw: (raw.attempt, raw.name))

    def names_aside(self) -> list[str]:
        """Scans that were put aside."""
        return sorted(path.stem for path in self.folder.glob(f"*{ASIDE}"))

    def series_handed_over(self, series: Path) -> None:
        """Remove the raw data of a scan whose series, written and handed over, have left the folder."""
        name = series.name.partition("_")[0]
        if not any(series.parent.glob(f"{name}*_dicom")):
            (self.folder / f"{name}{DELIVERED}").unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what is past its time, and what was handed over just before a kill."""
        for path in self.folder.glob(f"*{DELIVERED}"):
            self.series_handed_over(path.parent.parent / path.stem)
        for path in (*self.folder.glob(f"*{ASIDE}"), *self.folder.glob(f"*{DELIVERED}")):
            if time.time() - path.stat().st_mtime > self.days * 86400:
                logger.warning("%s: raw data removed after %g days", path, self.days)
                path.unlink(missing_ok=True)
                path.with_suffix(".txt").unlink(missing_ok=True)


class FileReader:
    """Reads raw data as :class:`asyncio.StreamReader` reads a client."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    async def readexactly(self, size: int) -> bytes:
        """Exactly so many bytes.

        Raises:
            asyncio.IncompleteReadError: there are fewer.
        """
        await asyncio.sleep(0)  # clients come first
        content = self._file.read(size)
        if len(content) < size:
            raise asyncio.IncompleteReadError(content, size)
        return content

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Delivery:
    """Writes each series of a scan as files, and has a router take the DICOM ones.

    Called again with the name of a scan that could not be written, or was being written when the server was killed, it
    keeps what is whole and goes on with the rest.

    Args:
        writer: The writer of file inference; files are named by date, time, model and series. Raw data lie in ``raw``
            beside them.
        router: Takes the DICOM series; None: they stay where they were written.
        raw_days: How long raw data are kept that could not be finished, or whose series wait for the router.
        retry_s: See :class:`scripts.serving.HandOver`.

    Raises:
        ValueError: a router without DICOM among the formats.
    """

    def __init__(
        self, writer: VolumeWriter, router: Router | None = None, raw_days: float = 7, retry_s: float = 5
    ) -> None:
        if router is not None and "dicom" not in writer.formats:
            raise ValueError(f"'formats': expected dicom among them, to hand it over, found {list(writer.formats)}")
        self.writer = writer
        self.raw = RawStore(writer.output_dir / "raw", raw_days)
        self.hand_over: HandOver | None = None
        if router is not None:
            self.hand_over = HandOver(writer.output_dir, router, retry_s, True, self.raw.series_handed_over)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Hand over, for the time of a block, what lies in the folder, which is readable by owner and group alone.

        Raises:
            BusyFolderError: another server has the folder.
        """
        folder = self.writer.output_dir
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(held(folder / ".lock", wait=False))
            except Timeout as error:
                expected = "expected a folder of its own, found another server's"
                raise BusyFolderError(f"{folder}: 'output_dir': {expected}") from error
            for left in folder.glob(".partial-*"):  # a kill left it; the raw data are still there
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
            self.raw.tidy()
            if self.hand_over is not None:
                self.hand_over.start()
                stack.callback(self.hand_over.stop)
            yield

    def delivered(self, raw: RawFile) -> None:
        """The series of these raw data are written: keep the data until the router has the series."""
        raw.delivered(keep=self.hand_over is not None)
        self.raw.series_handed_over(self.writer.output_dir / raw.name)  # where it was quicker

    def __call__(self, scan: Scan, name: str, model: ModelIdentity, lost: str = "") -> list[str]:
        """Write every series, each whole or not at all, and return what was written.

        Args:
            scan: Its slices are done.
            name: Of the scan.
            model: That made the images.
            lost: Why the scan did not come to its end; the series are marked. "": it did.

        Raises:
            OSError: the disk is full or cannot be written.
            ScanError: a series that cannot be written, whenever it is tried; the others were delivered.
        """
        self.writer.model = model
        placed: list[Path] = []
        failed: list[str] = []
        for raw, slices in scan.series():
            series = raw
            if lost:  # marked in its name and on each image
                note = f"incomplete scan: {lost}"
                marked = {i: "; ".join(filter(None, (note, raw.slice_notes.get(i)))) for i in range(raw.num_slices)}
                suffix = f"{raw.suffix}_incomplete"
                series = replace(raw, suffix=suffix, notes=(note, *raw.notes), slice_notes=marked)
            file = "_".join(filter(None, (name, model.tag))) + series.suffix
            try:
                placed += self._write(file, series, slices)
            except ValueError as error:
                failed.append(f"{file}: {error}")
        if self.hand_over is not None:
            self.hand_over.wake()
        places = [str(path) for path in placed]
        if failed:
            raise ScanError(f"not delivered: {'; '.join(failed)}; delivered: {', '.join(places) or 'nothing'}")
        return places

    def _write(self, name: str, raw: RawVolume, slices: Sequence[DoneSlice]) -> list[Path]:
        """Write a series, unless an earlier call did."""
        outputs = list(self.writer.outputs(name).values())
        if all(path.exists() for path in outputs):
            return outputs
        try:
            self.writer.begin(raw)
            for index, done in enumerate(slices):
                self.writer.add(index, torch.from_numpy(done.image)[None])
            written = self.writer.finish(name)
        finally:
            self.writer.discard()
        for path in written:
            if path.is_file():
                path.chmod(0o640)
            with contextlib.suppress(FileNotFoundError):  # it was handed over meanwhile
                _sync(path)
        return written


def _sync(path: Path) -> None:
    """See a file, or the files of a folder, to the disk, so that raw data may go."""
    for part in (path, path.parent) if path.is_file() else (*path.iterdir(), path, path.parent):
        handle = os.open(part, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
