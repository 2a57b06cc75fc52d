"""Where the series of a finished scan go."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path

import torch

from scripts.inference import VolumeWriter
from scripts.serving.outbox import Outbox
from scripts.serving.scan import Scan


class Delivery:
    """Writes each series of a scan as files, and puts its DICOM files into the queue of an archive.

    Args:
        writer: The writer of file inference; the series are named by date, time and number.
        outbox: The queue; None: nothing is sent.

    Raises:
        ValueError: a queue without DICOM among the formats.
    """

    def __init__(self, writer: VolumeWriter, outbox: Outbox | None = None) -> None:
        if outbox is not None and "dicom" not in writer.formats:
            raise ValueError(f"'formats': expected dicom among them, to send it, found {list(writer.formats)}")
        self.writer, self.outbox = writer, outbox
        self._numbers = itertools.count(1)

    def __call__(self, scan: Scan) -> list[str]:
        """Write every series, each whole or not at all, and return what was written.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        now = datetime.datetime.now()
        name = f"{now:%Y%m%d-%H%M%S}-{next(self._numbers):04d}"
        written: list[Path] = []
        for raw, slices in scan.series():
            try:
                self.writer.begin(raw)
                for index, done in enumerate(slices):
                    self.writer.add(index, torch.from_numpy(done.image)[None])
                written += self.writer.finish(f"{name}{raw.suffix}")
            finally:
                self.writer.discard()
        queued = [self.outbox.put(path) for path in written if path.is_dir()] if self.outbox is not None else []
        return [str(path) for path in (*written, *queued)]
