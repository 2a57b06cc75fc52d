"""The scan of one client: its readouts become slices, its slices series."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from scripts.inference.encoding import Encoding, read_encodings
from scripts.inference.raw_volume import RawVolume
from scripts.inference.readouts import (
    LAST_IN_SLICE,
    SERIES,
    Key,
    Measured,
    calibrates,
    columns_of,
    grid_of,
    has_flag,
    incomplete,
    judge,
    order_slices,
    purpose_of,
    rows_of,
    series_suffix,
    slice_geometry,
    zero_filled,
)
from scripts.inference.slice_kspace import NoiseCovariance, SliceKspace
from scripts.serving.limits import Limits, MemoryBudget, ScanError

Place = tuple[Key, int]
"""Series, number of the slice."""
MOST_PLACES = 10_000
"""Slices of which unusable readouts are counted."""
SLICE_OVERHEAD = 10_000
"""Bytes of a slice beside its k-space."""


class UnusableReadoutError(Exception):
    """A readout that is left out of the scan; the scan goes on."""


@dataclass
class OpenSlice:
    """A slice whose readouts are still coming."""

    place: Place
    kspace: SliceKspace  # sum of its readouts
    head: np.void  # of its first readout
    size: int  # bytes reserved for it
    columns: list[int] = field(default_factory=list)  # of its readouts, in the order of arrival
    rows: list[tuple[int, int]] = field(default_factory=list)  # first and last of each readout
    reference: bool = True  # whether all its readouts are for calibration alone
    ended: bool = False  # whether a readout said that it was the last

    @property
    def encoding(self) -> Encoding:
        """Its grid."""
        return self.kspace.encoding

    @property
    def measured(self) -> Measured:
        """What was measured of it."""
        first, last = zip(*self.rows, strict=True)
        return Measured(np.unique(self.columns), (np.array(first), np.array(last)), self.ended)


@dataclass(frozen=True)
class DoneSlice:
    """An image (h, w) float32 and what there is to say about it."""

    image: np.ndarray
    head: np.void
    note: str


class Scan:
    """Sorts readouts as they come; a slice is handed out as soon as it is complete.

    Args:
        header: ISMRMRD header (XML).
        source: The client, named in errors.
        limits: The limits of size.
        budget: The budget of memory.
        remove_oversampling: As for :func:`scripts.inference.encoding.read_encodings`.

    Raises:
        ScanError: a header that cannot be served; the field is named.
    """

    def __init__(
        self, header: str, source: str, limits: Limits, budget: MemoryBudget, remove_oversampling: bool = True
    ) -> None:
        try:
            self.encodings = read_encodings(header, source, remove_oversampling)
        except ValueError as error:
            raise ScanError(str(error)) from error
        usable = [encoding for encoding in self.encodings if isinstance(encoding, Encoding)]
        if not usable:
            raise ScanError(str(self.encodings[0]))
        self.encoding, self.limits = usable[0], limits
        for encoding in usable:
            self._check_matrix(encoding)
        self.source, self.budget, self._reserved = source, budget, 0
        self.identity = hashlib.sha256()  # as scripts.inference.raw_volume.ScanId
        self.noise = NoiseCovariance()
        self.started: dict[int, tuple[Encoding, int, np.ndarray | None, str]] = {}
        self.notes: tuple[str, ...] = ()
        self.open: dict[Place, OpenSlice] = {}
        self.done: dict[Place, DoneSlice] = {}
        self.measured: dict[Place, Measured] = {}
        self.refused: dict[Place, str] = {}
        self.skipped: Counter[str] = Counter()
        self.unusable = 0
        self.left_out: Counter[Place] = Counter()

    def _check_matrix(self, encoding: Encoding) -> None:
        if max(encoding.matrix) > self.limits.max_matrix:
            found = " x ".join(map(str, encoding.matrix))
            raise ScanError(
                f"'encodedSpace/matrixSize': expected at most {self.limits.max_matrix} a side, found {found}"
            )

    def take(self, head: np.void, samples: np.ndarray) -> OpenSlice | None:
        """Take a readout (coils, samples) and return the slice that it completes, if it does.

        Raises:
            UnusableReadoutError: it is left out of the scan; why is said.
            ScanError: the scan cannot go on.
        """
        if not np.isfinite(samples).all():
            self._leave_out(head, "expected finite samples, found NaN or Inf")
        number = int(head["encoding_space_ref"])
        encoding = self.encodings[number] if number < len(self.encodings) else ValueError("not in the header")
        purpose = str(purpose_of(head, isinstance(encoding, Encoding) and encoding.separate_calibration))
        named = f"readouts of encoding {number}" if len(self.encodings) > 1 else "readouts"
        if purpose == "noise":
            self._add_noise(samples)
        elif purpose or isinstance(encoding, ValueError):
            why = str(encoding).removeprefix(f"{self.source}: ")
            self.skipped[f"{purpose} {named}" if purpose else f"{named}: {why}"] += 1
        if purpose or isinstance(encoding, ValueError):
            return None
        encoding, coils = self._start(number, encoding, head, samples)
        self.identity.update(head.tobytes())
        self.identity.update(samples.tobytes())
        place = _place(head)
        if place in self.done or place in self.refused:
            self._leave_out(head, "its slice was complete before")
        if len(samples) != coils:
            self._leave_out(head, f"'active_channels': expected {coils}, found {len(samples)}")
        target = self.open.get(place) or self._open(place, head, coils, encoding)
        try:
            target.kspace.add(head, samples)
            target.columns.append(int(columns_of(head, encoding)))
            first, last = rows_of(head, encoding.matrix[0])
            target.rows.append((int(first), int(last)))
        except ValueError as error:
            self._leave_out(head, str(error))
        target.reference &= bool(calibrates(head))
        target.ended |= bool(has_flag(head, LAST_IN_SLICE))
        complete = bool(has_flag(head, LAST_IN_SLICE)) and int(head["idx"]["average"]) >= encoding.averages - 1
        return self.open.pop(place) if complete else None

    def rest(self) -> Iterator[OpenSlice]:
        """The slices of which no readout said that it was the last."""
        while self.open:
            target = self.open.pop(next(iter(self.open)))
            if target.columns:
                yield target
            else:
                self._give(target.size)

    def refuse(self, target: OpenSlice) -> str:
        """Why a slice whose readouts have come is no image, in which case it is dropped; "" where it is one."""
        (number, *_), index = target.place
        if target.reference and len(self.encodings) > 1:
            self.skipped[f"calibration readouts of encoding {number}"] += len(target.columns)
            why = "its readouts are for calibration alone"
        else:
            why, too_few = self._judge(target)
            why = why if too_few else ""
        if why:
            self.refused[target.place] = why = f"slice {index} left out: {why}"
            self._give(target.size)
        return why

    def _judge(self, target: OpenSlice) -> tuple[str, bool]:
        """As far as it is known by now how much a whole slice has; the series are judged at the end."""
        columns, key = target.measured.columns, target.place[0]
        whole = [
            len(one.columns)
            for (other, _), one in self.measured.items()
            if other == key or (other[0] == key[0] and not target.ended)
        ]
        return incomplete(columns, max([len(columns), *whole]), target.encoding.matrix[1])

    def kspace_of(self, target: OpenSlice) -> np.ndarray:
        """K-space (C, H, W) complex64 of a complete slice, as a file's would be."""
        return target.kspace.finish(self.started[target.place[0][0]][2])

    def finish(self, target: OpenSlice, image: np.ndarray, note: str) -> DoneSlice:
        """Keep the image (h, w) of a slice in place of its k-space."""
        measured, encoding = target.measured, target.encoding
        prewhitening = self.started[target.place[0][0]][3]
        self.notes = (prewhitening, *encoding.notes, *zero_filled(encoding, measured.columns, measured.rows))
        missing = self.left_out.get(target.place)
        without = f"made without {missing} readouts that could not be used" if missing else ""
        note = "; ".join(filter(None, (note, self._judge(target)[0], without)))
        self._take(image.nbytes)
        self._give(target.size)
        self.measured[target.place] = measured
        self.done[target.place] = DoneSlice(image, target.head, note)
        return self.done[target.place]

    def series(self) -> list[tuple[RawVolume, list[DoneSlice]]]:
        """What was reconstructed: each series with its images, ordered by position."""
        slices: dict[Key, dict[int, DoneSlice]] = defaultdict(dict)
        for (key, index), done in sorted(self.done.items(), key=lambda item: item[0]):
            slices[key][index] = done
        varying = [len(set(values)) > 1 for values in zip(*slices, strict=True)]
        skipped = ", ".join(f"{count} {what}" for what, count in sorted(self.skipped.items()))
        found = []
        for number, (key, of_series) in enumerate(slices.items(), start=1):
            encoding, coils, _, prewhitening = self.started[key[0]]
            same = {
                other: {i: self.measured[other, i] for i in slices[other]} for other in slices if other[0] == key[0]
            }
            judged, of_slices, _ = judge(encoding, same)[key]
            order = order_slices({index: done.head for index, done in of_series.items()})
            refused = [why for (other, _), why in self.refused.items() if other == key]
            left_out = [f"left out: {skipped}"] if skipped else []
            said = {}
            for index in order:
                texts = (*of_series[index].note.split("; "), *of_slices.get(index, "").split("; "))
                said[index] = "; ".join(dict.fromkeys(filter(None, texts)))
            raw = RawVolume(
                path=self.source,
                shape=(len(order), coils, encoding.height, encoding.matrix[1]),
                crop=encoding.crop,
                geometry=slice_geometry([of_series[index].head for index in order], encoding),
                fields=encoding.fields_of(key[1]),
                suffix=series_suffix(key, varying),
                number=number,
                notes=(prewhitening, *encoding.notes, *judged, *refused, *left_out),
                scan_id=self.identity.hexdigest(),
                slice_notes={place: said[index] for place, index in enumerate(order) if said[index]},
            )
            found.append((raw, [of_series[index] for index in order]))
        return found

    def close(self) -> None:
        """Give all memory back."""
        self.open.clear()
        self.done.clear()
        self._give(self._reserved)

    def _start(self, number: int, encoding: Encoding, head: np.void, samples: np.ndarray) -> tuple[Encoding, int]:
        """What the first readout of an encoding's image settles: grid, channels and prewhitening."""
        if number not in self.started:
            coils = len(samples)
            if coils == 0:
                raise ScanError("'active_channels': expected at least 1, found 0")
            encoding = encoding.fitted(grid_of(head))
            self._check_matrix(encoding)
            fits = self.noise.product is None or len(self.noise.product) == coils
            self.started[number] = encoding, coils, *(self.noise if fits else NoiseCovariance()).prewhitening()
        return self.started[number][:2]

    def _add_noise(self, samples: np.ndarray) -> None:
        """Noise counts where it comes before the image."""
        if self.started or samples.size == 0:
            return
        if self.noise.product is not None and len(self.noise.product) != len(samples):
            self.noise = NoiseCovariance()
        self.noise.add(samples)

    def _open(self, place: Place, head: np.void, coils: int, encoding: Encoding) -> OpenSlice:
        size = SLICE_OVERHEAD + 8 * coils * int(np.prod(encoding.matrix))
        self._take(size)
        self.open[place] = OpenSlice(place, SliceKspace(coils, encoding), head, size)
        return self.open[place]

    def _leave_out(self, head: np.void, reason: str) -> None:
        self.unusable += 1
        place = _place(head)
        if place in self.left_out or len(self.left_out) < MOST_PLACES:
            self.left_out[place] += 1
        raise UnusableReadoutError(f"readout {int(head['scan_counter'])} left out: {reason}")

    def _take(self, size: int) -> None:
        self.budget.take(size)
        self._reserved += size

    def _give(self, size: int) -> None:
        self.budget.give(size)
        self._reserved -= size


def _place(head: np.void) -> Place:
    counters = (int(head["idx"][name]) for name in SERIES)
    return (int(head["encoding_space_ref"]), *counters), int(head["idx"]["slice"])
