"""Heads of ISMRMRD readouts: which belong to the image, to which series, and where on the grid they lie.

The functions take one head or an array of heads: NumPy records with the format's field names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scripts.inference.encoding import Encoding
from scripts.inference.geometry import Geometry, crop_offset

Heads = np.ndarray | np.void  # an array of heads, or one of them
Key = tuple[int, ...]  # of a series: the number of its encoding and the counters of SERIES
# readouts by the bit numbers of the format
NOISE, CALIBRATION, CALIBRATION_AND_IMAGING, REVERSE = 19, 20, 21, 22
LAST_IN_SLICE = 8
SKIPPED = {"noise": NOISE, "navigation": 23, "phase correction": 24, "HP feedback": 26, "dummy": 27, "RT feedback": 28}
SKIPPED |= {"surface coil correction": 29, "phase stabilization reference": 30, "phase stabilization": 31}
SERIES = ("contrast", "phase", "repetition", "set")
"""Counters that make a series of their own."""
LEAST_SHARE = 0.5
"""Of the columns of a slice, below which it is no image."""


def has_flag(heads: Heads, bit: int) -> np.ndarray:
    """Whether a flag is set."""
    return (heads["flags"] >> np.uint64(bit - 1)) & np.uint64(1) != 0


def calibrates(heads: Heads) -> np.ndarray:
    """Whether readouts are for calibration alone."""
    return has_flag(heads, CALIBRATION) & ~has_flag(heads, CALIBRATION_AND_IMAGING)


def purpose_of(heads: Heads, separate_calibration: bool) -> np.ndarray:
    """What readouts are for: "" those of the image, else "noise", "navigation", …, "calibration"."""
    flags = {name: has_flag(heads, bit) for name, bit in SKIPPED.items()}
    if separate_calibration:
        flags["calibration"] = calibrates(heads)
    return np.select(list(flags.values()), list(flags), "")


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


def grid_of(heads: Heads) -> int:
    """Samples of the smallest grid around the centre sample that holds the kept samples of all readouts."""
    first, last = rows_of(heads, 0)
    return max(0, 2 * int(np.max(-first)), 2 * int(np.max(last)) - 1)


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
        what = "zero-filled readout" if abs(first + last - height) <= 1 else "asymmetric echo"
        notes.append(f"{what}: {first} samples before and {height - last} after the measured ones are zero")
    return tuple(notes)


def incomplete(columns: np.ndarray, most: int, width: int) -> tuple[str, bool]:
    """What there is to say of a slice of which not all was measured, and whether that is too little for an image.

    Args:
        columns: Its measured columns.
        most: How many columns a slice has that is complete.
        width: Columns of the grid.

    >>> incomplete(np.arange(3, 30), 30, 40)
    ('incomplete: 27 of 30 columns were measured', False)
    """
    measured = np.unique(columns)
    if len(measured) < most * LEAST_SHARE:
        return f"expected {most} measured columns, at least {LEAST_SHARE:.0%} of them, found {len(measured)}", True
    if not (len(measured) and measured[0] <= width // 2 <= measured[-1]):
        found = f"{measured[0]} to {measured[-1]}" if len(measured) else "none"
        return f"expected measured columns around the centre of k-space, {width // 2}, found {found}", True
    return (f"incomplete: {len(measured)} of {most} columns were measured" if len(measured) < most else ""), False


@dataclass
class Measured:
    """What was measured of a slice.

    Attributes:
        columns: The columns of its readouts.
        rows: The first row of each readout, and the one after its last.
        ended: Whether a readout said that it was the last of the slice.
    """

    columns: np.ndarray
    rows: tuple[np.ndarray, np.ndarray]
    ended: bool


def judge(
    encoding: Encoding, series: Mapping[Key, Mapping[int, Measured]]
) -> dict[Key, tuple[tuple[str, ...], dict[int, str], dict[int, str]]]:
    """What there is to say of the series of one encoding, each slice judged for itself.

    A slice is compared with the fullest one of its encoding; one whose last readout came, with its own series alone,
    as a series may be sampled less than the others.

    Returns:
        Of each series: notes; notes on single slices by their numbers; why a slice is no image.
    """
    counts = {key: [len(np.unique(one.columns)) for one in slices.values()] for key, slices in series.items()}
    most = max(max(count) for count in counts.values())
    number = max(encoding.slices, *map(len, series.values()))
    judged = {}
    for key, slices in series.items():
        fullest = list(slices.values())[int(np.argmax(counts[key]))]
        notes = zero_filled(encoding, fullest.columns, fullest.rows)
        own: dict[int, str] = {}
        refused: dict[int, str] = {}
        for index, one in slices.items():
            text, too_few = incomplete(one.columns, max(counts[key]) if one.ended else most, encoding.matrix[1])
            texts = [text, *(note for note in zero_filled(encoding, one.columns, one.rows) if note not in notes)]
            if too_few:
                refused[index] = text
            if any(texts):
                own[index] = "; ".join(filter(None, texts))
        if len(slices) < number:
            notes += (f"incomplete: {len(slices)} of {number} slices were measured",)
        judged[key] = notes, own, refused
    return judged


def series_suffix(key: Sequence[int], varying: Sequence[bool]) -> str:
    """What a series adds to the name of its scan: of its encoding and the counters of ``SERIES`` those that vary.

    >>> series_suffix((0, 0, 0, 3, 0), [False, False, False, True, False])
    '_repetition-3'
    """
    named = zip(("encoding", *SERIES), key, varying, strict=True)
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
