"""Where the series of a finished scan go."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path

import torch

from scripts.inference import VolumeWriter
from scripts.serving.scan import Scan


class Delivery:
    """Writes each series of a scan as files.

    Args:
        writer: as in file inference; the series are named by date, time and number.
    """

    def __init__(self, writer: VolumeWriter) -> None:
        self.writer = writer
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
        return [str(path) for path in written]
