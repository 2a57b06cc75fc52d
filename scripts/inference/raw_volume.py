"""What every raw data file is to the reconstruction: slices of k-space, a crop, a geometry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from scripts.inference.geometry import Geometry


@dataclass(frozen=True)
class RawVolume:
    """One scan of 2-D Cartesian slices, read one slice at a time.

    Attributes:
        path: The file.
        shape: (slices, coils, H, W) of the k-space.
        crop: (h, w) of the image, the centre of (H, W).
        geometry: The geometry of the cropped image.
        fields: Texts of the header by name, e.g. ``systemVendor``, ``studyInstanceUID``.
        mask: (W,) bool, the measured columns where the file states them; None: to be inferred.
        acquired: First column that can have been measured and the one after the last; None: all.
        suffix: What a series of several in one file adds to the file's name.
        number: The number of the series among those of its scan, from 1.
        notes: How the k-space was made, in words: prewhitening, partial Fourier, asymmetric echo.
        scan_id: The same for all series of one scan and for no other scan, or what computes it, since that reads the
            whole file; see :class:`ScanId`.
        slice_notes: What there is to say about single slices, by their place in the series.
        refused: Why the series cannot be reconstructed; "" where it can.
    """

    path: str
    shape: tuple[int, int, int, int]
    crop: tuple[int, int]
    geometry: Geometry
    fields: Mapping[str, str] = field(default_factory=dict)
    mask: np.ndarray | None = None
    acquired: tuple[int, int] | None = None
    suffix: str = ""
    number: int = 1
    notes: tuple[str, ...] = ()
    scan_id: str | Callable[[], str] = ""
    slice_notes: Mapping[int, str] = field(default_factory=dict)
    refused: str = ""

    @property
    def num_slices(self) -> int:
        return self.shape[0]

    @property
    def identity(self) -> str:
        """The scan's identity, from which UIDs follow that the header lacks."""
        return self.scan_id if isinstance(self.scan_id, str) else self.scan_id()

    def read(self, index: int) -> np.ndarray:
        """K-space of one slice, (C, H, W) complex64.

        Raises:
            ValueError: NaN or Inf, or a series that cannot be reconstructed, naming file and slice.
        """
        if self.refused:
            raise ValueError(f"{self.path}: {self.refused}")
        kspace = self._read(index)
        if not np.isfinite(kspace).all():
            raise ValueError(f"{self.path}: k-space, slice {index}: expected finite values, found NaN or Inf")
        return kspace

    def _read(self, index: int) -> np.ndarray:
        raise NotImplementedError

    def sampled_columns(self, kspace: np.ndarray) -> np.ndarray:
        """Measured columns (W,) bool of a slice: those the file states, or those that are not all zero.

        Zero-filled edges never count as measured.
        """
        columns = nonzero_columns(kspace) if self.mask is None else self.mask
        first, last = self.acquired or (0, len(columns))
        inside = np.arange(len(columns))
        return columns & (inside >= first) & (inside < last)

    def undersampled(self, kspace: np.ndarray) -> bool:
        """Whether a column is missing between the first and the last measured one of this slice (C, H, W)."""
        columns = np.flatnonzero(self.sampled_columns(kspace))
        return len(columns) > 0 and len(columns) < columns[-1] - columns[0] + 1


def nonzero_columns(kspace: np.ndarray) -> np.ndarray:
    """Columns (W,) bool of a slice (C, H, W) that are not all zero."""
    return (kspace != 0).any(axis=(0, 1))


class ScanId:
    """SHA-256 of all that was measured: of ISMRMRD the head and samples of every readout of the image, in their order.

    A file and a stream of the same readouts have the same; scans that differ in a sample have not. It is computed when
    it is first asked for, since a file has to be read to its end.

    Args:
        parts: Reads the heads and samples, or the slices of k-space.
    """

    def __init__(self, parts: Callable[[], Iterable[np.ndarray | np.void]]) -> None:
        self._parts, self._found = parts, ""

    def __call__(self) -> str:
        """The identity, as hexadecimal digits."""
        if not self._found:
            digest = hashlib.sha256()
            for part in self._parts():
                digest.update(part.tobytes())
            self._found = digest.hexdigest()
        return self._found
