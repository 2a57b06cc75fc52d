"""Raw data of every scan on disk as they arrive, before anything is made of them.

A scan is a file of the messages of the MRD protocol, byte by byte as they came, whole messages only: a kill costs none
that was written. ``ismrmrd.serialization.ProtocolDeserializer`` reads it, and so does this server after a restart.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

ARRIVING, DELIVERED, ASIDE = ".mrd", ".delivered", ".aside"
MOST_ATTEMPTS = 10
"""Restarts after which a scan that was not finished is put aside: it may be what ends the server."""
logger = logging.getLogger(__name__)


def new_name() -> str:
    """Of a scan: date, time and chance."""
    return f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


class RawFile:
    """The raw data of one scan.

    Args:
        path: ``NAME.mrd``; after restarts ``NAME.ATTEMPT.mrd``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name, _, attempt = path.stem.partition(".")
        self.attempt = int(attempt or 0)
        self.closed = False
        """Whether nothing is added any more, for want of disk."""

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
        name = scan_of(series.name)
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


def scan_of(name: str) -> str:
    """The name of the scan that a series belongs to.

    >>> scan_of(new_name() + "_oracle-abababab_dicom") == scan_of(new_name())
    False
    >>> scan_of("20260131-101112-abcdef_oracle-abababab_set-1_dicom")
    '20260131-101112-abcdef'
    """
    return name.partition("_")[0]
