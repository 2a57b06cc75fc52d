"""ISMRMRD files: readouts sorted into the k-space of 2-D Cartesian slices."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass, field, replace
from functools import partial

import h5py
import numpy as np

from scripts.data.header import stored_text
from scripts.data.volumes import open_volume
from scripts.inference.encoding import Encoding, read_encodings
from scripts.inference.raw_volume import RawVolume, ScanId
from scripts.inference.readouts import (
    LAST_IN_SLICE,
    NOISE,
    SERIES,
    Key,
    Measured,
    calibrates,
    columns_of,
    grid_of,
    has_flag,
    judge,
    order_slices,
    purpose_of,
    rows_of,
    series_suffix,
    slice_geometry,
)
from scripts.inference.slice_kspace import NoiseCovariance, SliceKspace


@dataclass(frozen=True)
class IsmrmrdRaw(RawVolume):
    """One series of an ISMRMRD file: one encoding, contrast, phase, repetition and set of one measurement.

    Noise, navigator and separate calibration readouts are left out of the image; embedded calibration lines are used.

    Attributes:
        group: The HDF5 group of the measurement.
        readouts: Numbers of the readouts of each slice, in order of position.
        encoding: Its grid.
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
            remove_oversampling: As for :func:`scripts.inference.encoding.read_encodings`.

        Returns:
            The series of every group, in the order of their counters. Their notes say what is left out: a group or an
            encoding that cannot be read beside others that can, and readouts that are no part of an image.

        Raises:
            FileNotFoundError, ValueError: naming file, field, what was found and what was expected.
        """
        found: dict[str, list[IsmrmrdRaw]] = {}
        problems: dict[str, ValueError] = {}
        with open_volume(path) as file:
            for group in find_groups(file):
                try:
                    found[group] = _measurement(path, group, file[group], remove_oversampling)
                except ValueError as error:
                    problems[f"group {group!r}"] = error
        notes = _left_out(path, found, problems)
        several = len(found) > 1
        series = [
            replace(raw, suffix=f"_{group.replace('/', '-')}{raw.suffix}" if several else raw.suffix)
            for group, measurement in found.items()
            for raw in measurement
        ]
        return [replace(raw, number=number, notes=raw.notes + notes) for number, raw in enumerate(series, start=1)]

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


def _measured(path: str, group: str, used: tuple[int, ...]) -> Iterator[np.ndarray | np.void]:
    """Head and samples of the readouts of the image, in their order."""
    with open_volume(path) as file:
        data = file[group]["data"]
        for number in used:
            readout = data[number]
            yield readout["head"]
            yield samples_of(readout)


def find_groups(file: h5py.File) -> list[str]:
    """The groups that hold ISMRMRD data (``xml`` and ``data``), at whatever depth."""
    groups: list[str] = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Group) and {"xml", "data"} <= set(item):
            groups.append(name)

    for key in file:
        if isinstance(group := file.get(key), h5py.Group):  # a link too
            visit(key, group)
            group.visititems(lambda name, item, key=key: visit(f"{key}/{name}", item))
    return groups


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


@dataclass
class _Part:
    """The image readouts of one encoding of a measurement: of each series the numbers of those of each slice."""

    encoding: Encoding
    coils: int
    series: dict[Key, dict[int, np.ndarray]]
    judged: dict[Key, tuple[tuple[str, ...], dict[int, str], dict[int, str]]]


def _measurement(path: str, group: str, item: h5py.Group, remove_oversampling: bool) -> list[IsmrmrdRaw]:
    """The series of one group."""
    text = stored_text(item["xml"][()])
    encodings = read_encodings(text, path, remove_oversampling)
    heads = item["data"].fields("head")[:]
    parts: list[_Part] = []
    problems: dict[str, ValueError] = {}
    left_out: Counter[str] = Counter()
    for number in np.unique(heads["encoding_space_ref"]).tolist():
        encoding: Encoding | ValueError = ValueError(
            f"'encoding_space_ref': expected one of {len(encodings)} encodings of the header, found {number}"
        )
        if number < len(encodings):
            encoding = encodings[number]
        own = np.flatnonzero(heads["encoding_space_ref"] == number)
        purposes = purpose_of(heads[own], isinstance(encoding, Encoding) and encoding.separate_calibration)
        slices = _slices(number, heads, own[purposes == ""])
        if len(encodings) > 1:  # slices of calibration alone are a reference scan
            for place in [place for place, numbers in slices.items() if calibrates(heads[numbers]).all()]:
                purposes[np.isin(own, slices.pop(place))] = "calibration"
        named = f" readouts of encoding {number}" if len(encodings) > 1 else " readouts"
        left_out.update(f"{purpose}{named}" for purpose in purposes.tolist() if purpose not in ("", "noise"))
        if slices:
            try:
                parts.append(_part(encoding, heads, slices))
            except ValueError as error:
                problems[f"{(purposes == '').sum()}{named}"] = ValueError(
                    f"{path}: {str(error).removeprefix(f'{path}: ')}"
                )
    if not parts and not problems:
        raise ValueError(f"{path}: readouts: expected image data, found none among {len(heads)} readouts")
    notes = _left_out(path, parts, problems)
    if left_out:
        notes += (f"left out: {', '.join(f'{count} {what}' for what, count in sorted(left_out.items()))}",)
    keys = [key for part in parts for key in part.series]
    varying = [len(set(values)) > 1 for values in zip(*keys, strict=True)]
    used = sorted(int(n) for part in parts for slices in part.series.values() for own in slices.values() for n in own)
    scan_id = ScanId(partial(_measured, str(path), group, tuple(used)))
    found = []
    for part in parts:
        whitening, note = _prewhitening(item["data"], heads, part)
        for key, slices_of in sorted(part.series.items()):
            own_notes, slice_notes, refused = part.judged[key]
            order = order_slices({index: heads[numbers[0]] for index, numbers in slices_of.items()})
            encoding = part.encoding
            found.append(
                IsmrmrdRaw(
                    path=path,
                    shape=(len(order), part.coils, encoding.height, encoding.matrix[1]),
                    crop=encoding.crop,
                    geometry=slice_geometry([heads[slices_of[index][0]] for index in order], encoding),
                    fields=encoding.fields_of(key[1]),
                    suffix=series_suffix(key, varying),
                    notes=(note, *encoding.notes, *own_notes, *notes),
                    scan_id=scan_id,
                    slice_notes={
                        place: slice_notes[index] for place, index in enumerate(order) if index in slice_notes
                    },
                    refused="; ".join(f"slice {order.index(i)}: {why}" for i, why in sorted(refused.items())),
                    group=group,
                    readouts=tuple(tuple(slices_of[index].tolist()) for index in order),
                    encoding=encoding,
                    whitening=whitening,
                )
            )
    return found


def _slices(number: int, heads: np.ndarray, used: np.ndarray) -> dict[tuple[Key, int], np.ndarray]:
    """The readouts of each slice of each series."""
    places: dict[tuple[Key, int], list[int]] = defaultdict(list)
    counters = np.stack([heads["idx"][name][used] for name in (*SERIES, "slice")], axis=1).astype(int)
    for readout, (*key, index) in zip(used.tolist(), counters.tolist(), strict=True):
        places[(number, *key), index].append(readout)
    return {place: np.array(readouts) for place, readouts in places.items()}


def _part(encoding: Encoding | ValueError, heads: np.ndarray, slices: dict[tuple[Key, int], np.ndarray]) -> _Part:
    """Check the readouts of an encoding, fit its grid to them and judge its slices."""
    if isinstance(encoding, ValueError):
        raise encoding
    used = np.concatenate(list(slices.values()))
    coils = np.unique(heads["active_channels"][used]).tolist()
    if len(coils) != 1:
        raise ValueError(f"'active_channels': expected the same for every readout, found {coils}")
    columns_of(heads[used], encoding)  # refuses those outside the grid
    encoding = encoding.fitted(grid_of(heads[used]))
    series: dict[Key, dict[int, np.ndarray]] = defaultdict(dict)
    measured: dict[Key, dict[int, Measured]] = defaultdict(dict)
    for (key, index), numbers in slices.items():
        own = heads[numbers]
        series[key][index] = numbers
        measured[key][index] = Measured(
            columns_of(own, encoding), rows_of(own, encoding.matrix[0]), bool(has_flag(own, LAST_IN_SLICE).any())
        )
    return _Part(encoding, coils[0], dict(series), judge(encoding, measured))


def _prewhitening(data: h5py.Dataset, heads: np.ndarray, part: _Part) -> tuple[np.ndarray | None, str]:
    """Of the noise before the first readout of a part."""
    noise = NoiseCovariance()
    first = min(int(numbers[0]) for slices in part.series.values() for numbers in slices.values())
    for number in np.flatnonzero(has_flag(heads[:first], NOISE)):
        if heads["active_channels"][number] == part.coils:
            noise.add(samples_of(data[int(number)]))
    return noise.prewhitening()


def _left_out(path: str, found: Sized, problems: Mapping[str, ValueError]) -> tuple[str, ...]:
    """A note on what cannot be read beside what can.

    Raises:
        ValueError: nothing can.
    """
    texts = [f"{what}: {str(error).removeprefix(f'{path}: ')}" for what, error in problems.items()]
    if not found:
        raise next(iter(problems.values())) if len(problems) == 1 else ValueError(f"{path}: {'; '.join(texts)}")
    return (f"left out: {'; '.join(texts)}",) if texts else ()
