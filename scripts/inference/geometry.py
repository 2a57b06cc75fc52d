"""Where the pixels of a reconstruction are, as far as the raw data say so; nothing is invented."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from scripts.data.header import whole_number

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Geometry:
    """Grid of an image volume (slices, h, w).

    Attributes:
        spacing: The pixel spacing (mm) between rows and between columns; None where unknown.
        slice_thickness: The slice thickness in mm; None where unknown.
        positions: The centre of the first pixel of each slice (slices, 3), mm, patient coordinates (LPS as in DICOM);
            None where unknown.
        row_direction: The unit vector (3,) along a row, that is, of increasing column index (LPS).
        column_direction: The unit vector (3,) along a column, of increasing row index (LPS).
        slice_direction: The unit vector (3,) of increasing slice index (LPS).
    """

    spacing: tuple[float, float] | None = None
    slice_thickness: float | None = None
    positions: np.ndarray | None = None
    row_direction: np.ndarray | None = None
    column_direction: np.ndarray | None = None
    slice_direction: np.ndarray | None = None

    @property
    def oriented(self) -> bool:
        """Whether position and orientation in the patient are known."""
        return self.spacing is not None and self.positions is not None

    @property
    def slice_step(self) -> np.ndarray | None:
        """Vector (3,) from one slice to the next (mm, LPS); None where unknown."""
        if self.spacing is None or self.positions is None:
            return None
        if len(self.positions) > 1:
            return (self.positions[-1] - self.positions[0]) / (len(self.positions) - 1)
        if self.slice_thickness is None or self.slice_direction is None:
            return None
        return self.slice_direction * self.slice_thickness

    def affine(self) -> np.ndarray | None:
        """NIfTI affine (4, 4), voxel (column, row, slice) to mm in RAS; None where the orientation is unknown."""
        step, along_row, along_column = self.slice_step, self.row_direction, self.column_direction
        if step is None or self.spacing is None or self.positions is None or along_row is None or along_column is None:
            return None
        affine = np.eye(4)
        rows, columns = self.spacing
        affine[:3] = LPS_TO_RAS @ np.column_stack((along_row * columns, along_column * rows, step, self.positions[0]))
        return affine


def pixel_spacing(encoding: ElementTree.Element | None, matrix: tuple[int, int]) -> tuple[float, float] | None:
    """Spacing (mm) of rows and columns: field of view / matrix of the header, or None where it does not say.

    Args:
        encoding: Of an ISMRMRD header; x is along H, the readout, and y along W.
        matrix: (H, W) of the k-space. Where it is the encoded matrix, the encoded space counts; otherwise, for
            instance after zero-filling, the reconstructed space.
    """
    encoded, recon = (space_of(encoding, name) for name in ("encodedSpace", "reconSpace"))
    space = encoded if encoded is not None and encoded[0][:2] == tuple(matrix) else recon
    if space is None:
        return None
    (x, y, _), (wide, high, _) = space
    return wide / x, high / y


def slice_thickness(encoding: ElementTree.Element | None) -> float | None:
    """Thickness (mm) of a slice of a 2-D acquisition, or None where the header does not say."""
    space = space_of(encoding, "reconSpace") or space_of(encoding, "encodedSpace")
    return None if space is None else space[1][2] / space[0][2]


def space_of(encoding: ElementTree.Element | None, name: str) -> tuple[tuple[int, ...], tuple[float, ...]] | None:
    """Matrix size and field of view (mm), each (x, y, z); None where one is missing or not positive."""
    space = None if encoding is None else encoding.find(f"{{*}}{name}")
    if space is None:
        return None
    try:
        size = tuple(whole_number(space.findtext(f"{{*}}matrixSize/{{*}}{axis}", "")) for axis in "xyz")
        extent = tuple(float(space.findtext(f"{{*}}fieldOfView_mm/{{*}}{axis}", "")) for axis in "xyz")
    except ValueError:
        return None
    return (size, extent) if min(size) > 0 and min(extent) > 0 and np.isfinite(extent).all() else None


def crop_offset(matrix: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int]:
    """Row and column, in the cropped image, of the pixel at the origin of the centred Fourier transform.

    >>> crop_offset((640, 368), (320, 320))
    (160, 160)
    """
    row, column = (full // 2 - (full - kept) // 2 for full, kept in zip(matrix, crop, strict=True))
    return row, column
