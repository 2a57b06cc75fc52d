"""ISMRMRD files: readouts sorted into the k-space of 2-D Cartesian slices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h5py
import numpy as np

from scripts.data.volumes import open_volume
from scripts.inference.encoding import Encoding, read_encoding
from scripts.inference.prewhitening import NoiseCovariance
from scripts.inference.raw_volume import RawVolume, ScanId
from scripts.inference.readouts import (
    NOISE,
    SERIES,
    columns_of,
    has_flag,
    is_image,
    order_slices,
    rows_of,
    series_suffix,
    slice_geometry,
    zero_filled,
)
from scripts.inference.slice_kspace import SliceKspace


@dataclass(frozen=True)
class IsmrmrdRaw(RawVolume):
    """One series of an ISMRMRD file: one contrast, phase, repetition and set.

    Noise, navigator and separate calibration readouts are left out of the image; embedded calibration lines are used.

    Attributes:
        group: The HDF5 group.
        readouts: Numbers of the readouts of each slice, in order of position.
        encoding: Grid of the scan.
        whitening: (C, C) complex64, or None where there is no usable noise.
    """

    group: str = "dataset"
    readouts: tuple[tuple[int, ...], ...] = ()
    encoding: Encoding = field(kw_only=True)
    whitening: np.ndarray | None = field(default=None, compare=False)

    @classmethod
    def open(cls, path: str, remove_oversampling: bool = True) -> list[IsmrmrdRaw]:
        """Read header, heads and noise, without the image's samples.

        Args:
            path: The file.
            remove_oversampling: As for :func:`scripts.inference.encoding.read_encoding`.

        Returns:
            The series, in the order of their counters.

        Raises:
            FileNotFoundError, ValueError: naming file, field, what was found and what was expected.
        """
        with open_volume(path) as file:
            group = find_group(file)
            text = file[group]["xml"][0]
            encoding = read_encoding(text, path, remove_oversampling)
            data = file[group]["data"]
            heads = data.fields("head")[:]
            used = np.flatnonzero(is_image(heads, encoding))
            if len(used) == 0:
                raise ValueError(f"{path}: readouts: expected image data, found none among {len(heads)} readouts")
            coils = np.unique(heads["active_channels"][used])
            if len(coils) != 1:
                found = coils.tolist()
                raise ValueError(f"{path}: 'active_channels': expected the same for every readout, found {found}")
            try:
                columns = columns_of(heads[used], encoding)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            noise = NoiseCovariance()
            for number in np.flatnonzero(has_flag(heads[: used[0]], NOISE)):
                if heads["active_channels"][number] == coils[0]:
                    noise.add(samples_of(data[int(number)]))
        whitening, note = noise.prewhitening()
        notes = (note, *zero_filled(encoding, columns, rows_of(heads[used], encoding.matrix[0])))
        series = _series(heads, used)
        common: dict[str, Any] = {
            "path": str(path),
            "encoding": encoding,
            "group": group,
            "whitening": whitening,
            "notes": notes,
        }
        common["scan_id"] = ScanId(partial(_measured, str(path), group, tuple(used.tolist())))
        return [
            cls(
                shape=(len(slices), int(coils[0]), encoding.height, encoding.matrix[1]),
                crop=encoding.crop,
                geometry=slice_geometry([heads[readouts[0]] for readouts in slices], encoding),
                fields=encoding.fields,
                suffix=suffix,
                number=number,
                readouts=slices,
                **common,
            )
            for number, (suffix, slices) in enumerate(series.items(), start=1)
        ]

    def _read(self, index: int) -> np.ndarray:
        kspace = SliceKspace(self.shape[1], self.encoding)
        numbers = self.readouts[index]
        with open_volume(self.path) as file:
            readouts = file[self.group]["data"][list(numbers)]
        for number, readout in zip(numbers, readouts, strict=True):
            try:
                kspace.add(readout["head"], samples_of(readout))
            except ValueError as error:
                raise ValueError(f"{self.path}: readout {number}: {error}") from error
        return kspace.finish(self.whitening)


def _measured(path: str, group: str | None, used: tuple[int, ...]) -> Iterator[np.ndarray | np.void]:
    """Head and samples of the readouts of the image, in their order."""
    with open_volume(path) as file:
        data = file[group]["data"]
        for number in used:
            readout = data[number]
            yield readout["head"]
            yield samples_of(readout)


def find_group(file: h5py.File) -> str | None:
    """The group that holds ISMRMRD data (``xml`` and ``data``); None where there is none."""
    groups = (key for key, item in file.items() if isinstance(item, h5py.Group) and {"xml", "data"} <= set(item))
    return next(groups, None)


def samples_of(readout: np.void) -> np.ndarray:
    """Samples (C, N) complex64 of a stored readout.

    Raises:
        ValueError: another number of values than its head states.
    """
    coils, length = int(readout["head"]["active_channels"]), int(readout["head"]["number_of_samples"])
    data = readout["data"]
    if data.size != 2 * coils * length:
        raise ValueError(f"expected {coils} coils of {length} complex samples, found {data.size} numbers")
    return data.astype(np.float32, copy=False).view(np.complex64).reshape(coils, length)


def _series(heads: np.ndarray, used: np.ndarray) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Suffix of each series -> numbers of the readouts of each slice, slices ordered by position."""
    counters = np.stack([heads["idx"][name][used] for name in SERIES], axis=1).astype(int)
    varying = [len(np.unique(column)) > 1 for column in counters.T]
    groups: dict[tuple[int, ...], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, key in zip(used.tolist(), map(tuple, counters.tolist()), strict=True):
        groups[key][int(heads["idx"]["slice"][number])].append(number)
    return {
        series_suffix(key, varying): tuple(
            tuple(slices[index]) for index in order_slices({i: heads[numbers[0]] for i, numbers in slices.items()})
        )
        for key, slices in sorted(groups.items())
    }
