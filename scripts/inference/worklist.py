"""Patient, study and accession number of a scan, out of a file that the site keeps."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from scripts.inference.raw_volume import RawVolume

FIELDS = (
    "patientName", "patientID", "patientBirthdate", "patientGender", "studyInstanceUID", "studyID", "studyDate",
    "studyTime", "accessionNumber",
)  # fmt: skip
logger = logging.getLogger(__name__)


class Worklist:
    """A CSV file with a line for each expected scan; it is read anew for each scan.

    The first column is a field of the ISMRMRD header by which a scan is found, such as ``measurementID``; the others
    are fields of the header (:data:`FIELDS`) that the line states in the header's place. An empty cell leaves the
    header's.

    Args:
        path: The file.

    Raises:
        FileNotFoundError, ValueError: no such file, or no such columns; the column is named.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._read()

    def complete(self, raw: RawVolume) -> RawVolume:
        """The series with the fields of its line; without one, or a file to read, which is logged, as it is."""
        try:
            key, lines = self._read()
        except (OSError, ValueError) as error:  # an image is not lost for it
            logger.error("%s: patient and study are the header's: %s", raw.path, error)
            return raw
        value = raw.fields.get(key, "")
        if value not in lines:
            logger.warning("%s: patient and study are the header's: its %s is not in %s", raw.path, key, self.path)
            return raw
        return replace(raw, fields={**raw.fields, **lines[value]})

    def _read(self) -> tuple[str, Mapping[str, Mapping[str, str]]]:
        """The name of the key, and the fields that each of its values stands for."""
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            key, *columns = reader.fieldnames or [""]
            if not key or not columns or (unknown := set(columns) - set(FIELDS)):
                found = ", ".join(sorted(unknown)) if key and columns else f"{[key, *columns]}"
                raise ValueError(
                    f"{self.path}: expected a field of the header and then some of {', '.join(FIELDS)}, found {found}"
                )
            lines: dict[str, dict[str, str]] = {}
            for row in reader:
                if None in row or None in row.values() or row[key] in lines or not row[key]:
                    expected = f"expected {1 + len(columns)} cells and a {key} of its own"
                    raise ValueError(f"{self.path}, line {reader.line_num}: {expected}, found {list(row.values())}")
                lines[row[key]] = {name: row[name].strip() for name in columns if row[name].strip()}
        return key, lines
