"""Where the series of a finished scan go."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import torch

from scripts.inference import VolumeWriter
from scripts.inference.raw_volume import RawVolume
from scripts.serving.limits import ScanError
from scripts.serving.outbox import Archive, Outbox
from scripts.serving.scan import DoneSlice, Scan


class Delivery:
    """Writes each series of a scan as files, and puts its DICOM files into the queue of an archive.

    Called again with a scan that could not be written, it keeps what was, and goes on with the rest.

    Args:
        writer: The writer of file inference; the series are named by date, time and number.
        archive: Where the series go, by a queue in the folder ``outbox`` beside them; None: nothing is sent.
        retry_s: Of the queue.

    Raises:
        ValueError: an archive without DICOM among the formats.
    """

    def __init__(self, writer: VolumeWriter, archive: Archive | None = None, retry_s: float = 10) -> None:
        if archive is not None and "dicom" not in writer.formats:
            raise ValueError(f"'formats': expected dicom among them, to send it, found {list(writer.formats)}")
        self.writer = writer
        self.outbox = Outbox(writer.output_dir / "outbox", archive, retry_s) if archive is not None else None
        self._numbers = itertools.count(1)
        self._names: WeakKeyDictionary[Scan, str] = WeakKeyDictionary()

    def __call__(self, scan: Scan) -> list[str]:
        """Write every series, each whole or not at all, and return what was written.

        Raises:
            OSError: the disk is full or cannot be written.
            ScanError: a series that cannot be written, whenever it is tried; the others were delivered.
        """
        if scan not in self._names:
            self._names[scan] = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{next(self._numbers):04d}"
        placed: list[Path] = []
        failed: list[str] = []
        for raw, slices in scan.series():
            name = f"{self._names[scan]}{raw.suffix}"
            try:
                written = self._write(name, raw, slices)
            except ValueError as error:
                failed.append(f"{name}: {error}")
                continue
            placed += written
            if self.outbox is not None:  # at once, so that a kill leaves no series beside the queue
                placed += [self.outbox.put(path) for path in written if path.is_dir()]
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
            return self.writer.finish(name)
        finally:
            self.writer.discard()
