"""NIfTI magnitude volumes, checked and turned upright."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from scripts.phantoms.acquisition import OBJECT_LEVEL

TEXT_FIELDS = ("anatomy", "acquisition", "patient_id")
LEAST_COVER = 0.05
MILLIMETRES = {"unknown": 1.0, "meter": 1000.0, "mm": 1.0, "micron": 0.001}  # of a unit of space


@dataclass(frozen=True)
class Magnitude:
    """A magnitude volume: slices (H, W) along the first axis of ``data`` (S, H, W) float32, turned upright.

    Attributes:
        spacing: The spacing of rows and columns, (mm, mm).
        thickness: The spacing of slices, mm.
        fields: The datalist fields that were given.
        split: The section that was given, or None.
        used: The slices that are simulated.
    """

    path: str
    data: np.ndarray
    spacing: tuple[float, float]
    thickness: float
    fields: Mapping[str, str]
    split: str | None
    used: range = range(0)

    @property
    def shape(self) -> tuple[int, int]:
        _, height, width = self.data.shape
        return height, width

    def slice(self, index: int) -> np.ndarray:
        return self.data[index]

    def spacing_at(self, matrix: Sequence[int]) -> tuple[float, float]:
        """Pixel spacing (mm) of the same field of view at another matrix (H, W)."""
        (rows, columns), (height, width) = self.spacing, self.shape
        return rows * height / matrix[0], columns * width / matrix[1]

    def slices_with_signal(self) -> range:
        """The slices without the air at both ends.

        Air: fewer pixels above ``OBJECT_LEVEL`` of the volume's (robust) maximum than ``LEAST_COVER`` of those in
        the fullest slice.
        """
        level = OBJECT_LEVEL * np.percentile(self.data, 99.9)
        cover = (self.data > level).sum(axis=(1, 2))
        used = np.flatnonzero(cover > LEAST_COVER * cover.max())
        return range(int(used[0]), int(used[-1]) + 1)


def read_magnitude(entry: Mapping[str, Any]) -> Magnitude:
    """Read and check the image of one entry of ``simulate``'s list.

    Raises:
        FileNotFoundError, ValueError: The file is unfit; the message names file, field, what was found and what was
            expected.
    """
    path, split = str(entry["image"]), entry.get("split")
    fields = {field: str(entry[field]) for field in TEXT_FIELDS if entry.get(field) is not None}
    image = _open(path)
    volume, count = entry.get("volume") or 0, image.shape[3] if len(image.shape) == 4 else 1
    if volume >= count:
        raise ValueError(f"{path}: volume: found {volume}, expected a whole number from 0 to {count - 1}")
    axis = 2 if entry.get("slice_axis") is None else entry["slice_axis"]
    try:
        data = np.asarray(image.dataobj[..., volume] if len(image.shape) == 4 else image.dataobj, dtype=np.float32)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"{path}: image: found a truncated or damaged file, expected whole NIfTI: {error}") from error
    data = data if data.ndim == 3 else data[..., None]
    _check_values(data, path)
    if not np.isfinite(image.affine).all():
        raise ValueError(f"{path}: affine: found NaN or Inf, expected finite numbers")
    data, order = _upright(data, nib.aff2axcodes(image.affine), axis)
    unit = MILLIMETRES[_unit(image, path)]
    stated = (*image.header.get_zooms(), 0.0)  # of a single slice, which states no thickness
    zooms = [unit * float(stated[i]) or 1.0 for i in order]
    return Magnitude(path, data, (zooms[1], zooms[2]), zooms[0], fields, split)


def _open(path: str) -> nib.Nifti1Pair:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: image: no such file, expected a NIfTI volume")
    try:
        image = nib.load(path)
    except (nib.filebasedimages.ImageFileError, OSError, ValueError) as error:
        raise ValueError(f"{path}: image: found a file that does not open, expected NIfTI: {error}") from error
    if not isinstance(image, nib.Nifti1Pair):
        raise ValueError(f"{path}: image: found {type(image).__name__}, expected NIfTI")
    if len(image.shape) not in (2, 3, 4) or 0 in image.shape:
        raise ValueError(f"{path}: image: found shape {image.shape}, expected 2-D to 4-D")
    if image.get_data_dtype().kind not in "iuf":
        raise ValueError(f"{path}: image: found data of type {image.get_data_dtype()}, expected real magnitudes")
    return image


def _unit(image: nib.Nifti1Pair, path: str) -> str:
    try:
        return str(image.header.get_xyzt_units()[0])
    except KeyError:
        code = int(image.header["xyzt_units"])
        raise ValueError(f"{path}: xyzt_units: found {code}, expected units of {', '.join(MILLIMETRES)}") from None


def _check_values(data: np.ndarray, path: str) -> None:
    if not np.isfinite(data).all():
        raise ValueError(f"{path}: image: found NaN or Inf, expected finite magnitudes")
    if data.min() < 0:
        raise ValueError(f"{path}: image: found a minimum of {data.min():g}, expected magnitudes from 0")
    if data.max() == 0:
        raise ValueError(f"{path}: image: found only zeros, expected magnitudes above 0")


def _upright(data: np.ndarray, codes: Sequence[str | None], axis: int) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Slices first, then rows from superior (else anterior) down, columns from right (else anterior).

    ``codes`` are the directions that the header states; returns the array and the order of its original axes.
    """
    rows, columns = (i for i in range(3) if i != axis)
    if codes[columns] in ("S", "I") or codes[rows] in ("R", "L"):
        rows, columns = columns, rows
    flip = tuple(i for i in (1, 2) if codes[(axis, rows, columns)[i]] in ("S", "A", "R"))
    return np.ascontiguousarray(np.flip(data.transpose(axis, rows, columns), flip)), (axis, rows, columns)
