"""One scan as two patients: copies that were scaled or exchanged in part, found by their low frequencies."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np

from scripts.data.volumes import Volume, open_volume

MOST_SLICES, MOST_SECONDS = 6000, 20.0  # compared in all, and spent on reading
SIDE, BULK = 24, 3  # of the block of low frequencies that is compared, and of its middle, which is left out
ALIKE = 0.99  # correlation of low frequencies; two scans of two people stay far below, neighbouring slices may not
SAME = 1 - 1e-6  # correlation of all that the first coil measured in two slices, above which they are one measurement:
# the noise of a second measurement, of the same phantom for instance, is more than that
CLOSE = 0.999  # above which they are one object, which is worth a warning; neighbouring slices of an image stay below
BLOCK = 1000  # slices that are compared with all at a time
TINY = np.finfo(np.float32).tiny
logger = logging.getLogger(__name__)
_passed: set[tuple] = set()  # files, as they were, and patients that this process has compared: a study does so once


def refuse_same_scans(volumes: Sequence[Volume], where: str | Path) -> None:
    """Refuse slices of two patients that correlate as only one measurement can, whatever they were multiplied by.

    Compared are the low frequencies of the first coil, as many slices of each volume as :data:`MOST_SLICES` allows, and
    where they are alike all of its samples: neighbouring slices of one image differ there, two measurements of one
    object in their noise. The log says where not all were compared. Scans of one patient, who is named alike, may be
    alike; one without a patient counts as a patient of its own.

    Raises:
        ValueError: naming both volumes and the slice.
    """
    files = [os.stat(volume.path) for volume in volumes]
    state = tuple((v.path, v.patient_id, f.st_size, f.st_mtime_ns) for v, f in zip(volumes, files, strict=True))
    if state in _passed:
        return
    each = max(MOST_SLICES // max(len(volumes), 1), 1)
    until, skipped = time.monotonic() + MOST_SECONDS, 0
    rows: list[np.ndarray] = []
    owners: list[tuple[int, int]] = []  # number of the volume and of the slice
    for number, volume in enumerate(volumes[:MOST_SLICES]):
        if time.monotonic() > until:
            skipped += len(volumes[:MOST_SLICES]) - number
            break
        count = volume.num_slices
        chosen = (
            sorted({count // 2, *(i * count // each for i in range(each - 1))}) if each < count else [*range(count)]
        )
        skipped += count > each
        rows.append(_low_frequencies(volume, chosen))
        owners += [(number, index) for index in chosen]
    skipped += max(len(volumes) - MOST_SLICES, 0)
    if skipped:
        logger.info(
            "%s: not every slice of %d of %d volumes was compared with those of other patients",
            where, skipped, len(volumes),
        )  # fmt: skip
    if rows:
        _compare(volumes, np.concatenate(rows), owners, where)
    _passed.add(state)


def _compare(
    volumes: Sequence[Volume], slices: np.ndarray, owners: Sequence[tuple[int, int]], where: str | Path
) -> None:
    """Refuse slices that are one measurement; ``slices``: (n, SIDE²) complex64 of unit norm, ``owners``: whose."""
    of = np.array([number for number, _ in owners])
    patients = np.array([volume.patient_id or f"\0{number}" for number, volume in enumerate(volumes)])
    shapes = np.array([str(volume.kspace_shape[1:]) for volume in volumes])
    samples = lru_cache(64)(lambda number, index: _samples(volumes[number], index))
    until, warned = time.monotonic() + MOST_SECONDS, False
    for begin in range(0, len(slices), BLOCK):
        alike = np.abs(slices[begin : begin + BLOCK].conj() @ slices.T) > ALIKE
        for one, other in zip(*np.nonzero(alike), strict=True):
            first, second = of[begin + one], of[other]
            if not (first < second and patients[first] != patients[second] and shapes[first] == shapes[second]):
                continue
            if time.monotonic() > until:
                logger.info("%s: many slices are alike; not all were compared with those of other patients", where)
                return
            correlation = abs(np.vdot(samples(*owners[begin + one]), samples(*owners[other])))
            names = volumes[first].name, volumes[second].name
            if correlation > SAME:
                raise ValueError(
                    f"{where}: 'kspace': slice {owners[begin + one][1]} of {names[0]} and slice {owners[other][1]} of "
                    f"{names[1]} are one measurement, expected different ones of two patients"
                )
            if correlation > CLOSE and not warned:
                warned = True
                logger.warning(
                    "%s: %s and %s, of two patients, differ by little more than noise: measurements of one object, or "
                    "a copy that was changed", where, *names,
                )  # fmt: skip


def _samples(volume: Volume, index: int) -> np.ndarray:
    """(h·w,) complex of unit norm: all that the first coil measured in a slice; zeros where it holds no numbers."""
    with open_volume(volume.path) as file:
        samples = _first_coil(file["kspace"], index).astype(np.complex128)
    return _unit(samples.reshape(1, -1))[0]


def _low_frequencies(volume: Volume, chosen: Sequence[int]) -> np.ndarray:
    """(n, SIDE²) complex64 of unit norm, of the first coil, without the middle; zeros where nothing is left."""
    height, width = volume.kspace_shape[-2:]
    side = min(SIDE, height, width)
    place = tuple(slice((size - side) // 2, (size - side) // 2 + side) for size in (height, width))
    low = np.zeros((len(chosen), SIDE, SIDE), dtype=np.complex64)
    try:
        with open_volume(volume.path) as file:
            for row, index in enumerate(chosen):
                low[row, :side, :side] = _first_coil(file["kspace"], index, place)
    except OSError as error:  # the check of its values names it
        logger.debug("%s: not compared with other scans: %s", volume.path, error)
    middle = (side - BULK + 1) // 2
    low[:, middle : middle + BULK, middle : middle + BULK] = 0
    return _unit(low.reshape(len(chosen), -1))


def _first_coil(kspace: h5py.Dataset, index: int, place: tuple[slice, ...] = ()) -> np.ndarray:
    """What the first coil measured in a slice, (h, w) complex, or a part of it."""
    measured: np.ndarray = kspace[(index, 0, *place)] if kspace.ndim == 4 else kspace[(index, *place)]
    return measured


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows (n, m) complex of unit norm, of the type that was given; zeros where one holds no numbers or nothing."""
    rows[~np.isfinite(rows).all(axis=1)] = 0
    rows = rows / np.maximum(np.abs(rows).max(axis=1, keepdims=True), TINY)  # so that squares stay within range
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY)).astype(rows.dtype)
