"""Where the series of a finished scan go: files, and from there to the router."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
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
from scripts.serving.raw_store import RawFile, RawStore
from scripts.serving.router import Router
from scripts.serving.scan import DoneSlice, Scan

logger = logging.getLogger(__name__)


class BusyFolderError(OSError):
    """Another server writes to the folder."""


class NotWrittenError(ScanError):
    """The disk is full, or cannot be written: the scan is complete, and is tried again."""


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
        try:
            lock = held(folder / ".lock", wait=False)
            lock.__enter__()
        except Timeout as error:
            raise BusyFolderError(
                f"{folder}: 'output_dir': expected a folder of its own, found another server's"
            ) from error
        try:
            for left in folder.glob(".partial-*"):  # a kill left it; the raw data are still there
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
            self.raw.tidy()
            if self.hand_over is not None:
                self.hand_over.start()
            yield
        finally:
            if self.hand_over is not None:
                self.hand_over.stop()
            lock.__exit__(None, None, None)

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
            series = _incomplete(raw, lost) if lost else raw
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


def _incomplete(raw: RawVolume, lost: str) -> RawVolume:
    """A series of a scan that did not come to its end, marked in its name and on each image."""
    note = f"incomplete scan: {lost}"
    notes = {index: "; ".join(filter(None, (note, raw.slice_notes.get(index)))) for index in range(raw.num_slices)}
    return replace(raw, suffix=f"{raw.suffix}_incomplete", notes=(note, *raw.notes), slice_notes=notes)


def _sync(path: Path) -> None:
    """See a file, or the files of a folder, to the disk, so that raw data may go."""
    for part in (path, path.parent) if path.is_file() else (*path.iterdir(), path, path.parent):
        handle = os.open(part, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
