"""Heads of ISMRMRD readouts: which belong to the image, to which series, and where on the grid they lie.

The functions take one head or an array of heads: NumPy records with the format's field names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scripts.inference.encoding import Encoding
from scripts.inference.geometry import Geometry, crop_offset

Heads = np.ndarray | np.void  # an array of heads, or one of them
# readouts by the bit numbers of the format
NOISE, CALIBRATION, CALIBRATION_AND_IMAGING, REVERSE = 19, 20, 21, 22
LAST_IN_SLICE = 8
SKIPPED = {"noise": NOISE, "navigation": 23, "phase correction": 24, "HP feedback": 26, "dummy": 27, "RT feedback": 28}
SKIPPED |= {"surface coil correction": 29, "phase stabilization reference": 30, "phase stabilization": 31}
SERIES = ("contrast", "phase", "repetition", "set")
"""Counters that make a series of their own."""


def has_flag(heads: Heads, bit: int) -> np.ndarray:
    """Whether a flag is set."""
    return (heads["flags"] >> np.uint64(bit - 1)) & np.uint64(1) != 0


def is_image(heads: Heads, encoding: Encoding) -> np.ndarray:
    """Whether readouts belong to the image: no noise, no navigator, no calibration of its own."""
    skipped = np.any([has_flag(heads, bit) for bit in SKIPPED.values()], axis=0)
    if encoding.separate_calibration:
        skipped |= has_flag(heads, CALIBRATION) & ~has_flag(heads, CALIBRATION_AND_IMAGING)
    return ~skipped & (heads["encoding_space_ref"] == 0)


def columns_of(heads: Heads, encoding: Encoding) -> np.ndarray:
    """Columns on the grid.

    Raises:
        ValueError: outside the grid, or a second phase encoding.
    """
    width = encoding.matrix[1]
    columns = heads["idx"]["kspace_encode_step_1"].astype(np.int64) + width // 2 - encoding.centre_step
    if np.any(columns < 0) or np.any(columns >= width):
        raise ValueError(
            f"'kspace_encode_step_1': expected columns 0 to {width - 1}, found {np.min(columns)} to {np.max(columns)}"
        )
    if np.any(heads["idx"]["kspace_encode_step_2"] != 0):
        found = int(np.max(heads["idx"]["kspace_encode_step_2"]))
        raise ValueError(f"'kspace_encode_step_2': expected 0 (2-D slices), found {found}")
    return columns


def rows_of(heads: Heads, height: int) -> tuple[np.ndarray, np.ndarray]:
    """First row of the kept samples and the one after the last, the centre sample at ``height // 2``."""
    names = ("number_of_samples", "center_sample", "discard_pre", "discard_post")
    length, centre, before, after = (heads[name].astype(np.int64) for name in names)
    reverse = has_flag(heads, REVERSE)
    centre = np.where(reverse, length - 1 - centre, centre)
    first = height // 2 - centre + np.where(reverse, after, before)
    return first, first + length - before - after


def zero_filled(encoding: Encoding, columns: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> tuple[str, ...]:
    """What of the grid was never measured and is zero, in words: partial Fourier, asymmetric echo.

    Columns that are missing at an edge count where more are missing than between any two neighbours.
    """
    height, width = encoding.matrix
    measured = np.unique(columns)
    step = int(np.diff(measured).max()) if len(measured) > 1 else width
    edges = measured[0], width - 1 - measured[-1]
    notes = []
    if max(edges) >= step:
        notes.append(f"partial Fourier: {edges[0]} columns before and {edges[1]} after the measured ones are zero")
    first, last = int(np.min(rows[0])), int(np.max(rows[1]))
    if first > 0 or last < height:
        notes.append(f"asymmetric echo: {first} samples before and {height - last} after the measured ones are zero")
    return tuple(notes)


def series_suffix(key: tuple[int, ...], varying: list[bool]) -> str:
    """What a series adds to the name of its scan.

    >>> series_suffix((0, 0, 3, 0), [False, False, True, False])
    '_repetition-3'
    """
    named = zip(SERIES, key, varying, strict=True)
    return "".join(f"_{name}-{value}" for name, value, varies in named if varies)


def order_slices(first_heads: Mapping[int, Heads]) -> list[int]:
    """Slice numbers, ordered along the slice direction where the positions differ.

    Args:
        first_heads: a head of each slice by its number.
    """

    def along(index: int) -> tuple[float, int]:
        head = first_heads[index]
        return round(float(np.dot(head["position"], head["slice_dir"])), 3), index

    return sorted(first_heads, key=along)


def slice_geometry(first_heads: Sequence[Heads], encoding: Encoding) -> Geometry:
    """Geometry of the cropped images, by one head of each slice in order."""
    spacing, thickness = encoding.spacing, encoding.slice_thickness
    read, phase, normal = (np.asarray(first_heads[0][name], float) for name in ("read_dir", "phase_dir", "slice_dir"))
    unit = all(abs(np.linalg.norm(v) - 1) < 1e-2 for v in (read, phase, normal))
    centres = np.array([head["position"] for head in first_heads], float)
    distinct = len({tuple(np.round(centre, 3)) for centre in centres}) == len(centres)
    if spacing is None or not (unit and distinct and np.isfinite(centres).all() and abs(read @ phase) < 1e-2):
        return Geometry(spacing, thickness)
    read, phase, normal = (vector / np.linalg.norm(vector) for vector in (read, phase, normal))
    row, column = crop_offset((encoding.height, encoding.matrix[1]), encoding.crop)
    corner = centres - row * spacing[0] * read - column * spacing[1] * phase
    return Geometry(spacing, thickness, corner, phase, read, normal)
