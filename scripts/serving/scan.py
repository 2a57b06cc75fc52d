"""The scan of one client: its readouts become slices, its slices series."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from scripts.inference.encoding import Encoding, read_encoding
from scripts.inference.prewhitening import NoiseCovariance
from scripts.inference.raw_volume import RawVolume
from scripts.inference.readouts import (
    LAST_IN_SLICE,
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
from scripts.serving.limits import Limits, MemoryBudget, ScanError

Place = tuple[tuple[int, ...], int]
"""Counters of the series, number of the slice."""
MOST_PLACES = 10_000
"""Slices of which unusable readouts are counted."""
SLICE_OVERHEAD = 10_000
"""Bytes of a slice beside its k-space."""


class UnusableReadout(Exception):
    """A readout that is left out of the scan; the scan goes on."""


@dataclass
class OpenSlice:
    """A slice whose readouts are still coming.

    Attributes:
        place: Series and number.
        kspace: Sum of its readouts.
        head: The head of its first readout.
        columns: The columns of its readouts, in the order of arrival.
        rows: First and last of all its readouts.
        size: Bytes reserved for it.
    """

    place: Place
    kspace: SliceKspace
    head: np.void
    size: int
    columns: list[int] = field(default_factory=list)
    rows: list[tuple[int, int]] = field(default_factory=list)


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
        remove_oversampling: As for :func:`scripts.inference.encoding.read_encoding`.

    Raises:
        ScanError: a header that cannot be served; the field is named.
    """

    def __init__(
        self, header: str, source: str, limits: Limits, budget: MemoryBudget, remove_oversampling: bool = True
    ) -> None:
        try:
            self.encoding: Encoding = read_encoding(header, source, remove_oversampling)
        except ValueError as error:
            raise ScanError(str(error)) from error
        if max(self.encoding.matrix) > limits.max_matrix:
            found = " x ".join(map(str, self.encoding.matrix))
            raise ScanError(f"'encodedSpace/matrixSize': expected at most {limits.max_matrix} a side, found {found}")
        self.source, self.budget = source, budget
        self.identity = hashlib.sha256()  # as scripts.inference.raw_volume.ScanId
        self.noise = NoiseCovariance()
        self.whitening: np.ndarray | None = None
        self.coils = 0
        self.notes: tuple[str, ...] = ()
        self.open: dict[Place, OpenSlice] = {}
        self.done: dict[Place, DoneSlice] = {}
        self.unusable = 0
        self.left_out: Counter[Place] = Counter()
        self._reserved = 0

    def take(self, head: np.void, samples: np.ndarray) -> OpenSlice | None:
        """Take a readout (coils, samples) and return the slice that it completes, if it does.

        Raises:
            UnusableReadout: it is left out of the scan; why is said.
            ScanError: the scan cannot go on.
        """
        if not np.isfinite(samples).all():
            self._leave_out(head, "expected finite samples, found NaN or Inf")
        if has_flag(head, NOISE):
            self._add_noise(samples)
            return None
        if not is_image(head, self.encoding):
            return None
        self._start(samples)
        self.identity.update(head.tobytes())
        self.identity.update(samples.tobytes())
        place = _place(head)
        if place in self.done:
            self._leave_out(head, "its slice was complete before")
        if len(samples) != self.coils:
            self._leave_out(head, f"'active_channels': expected {self.coils}, found {len(samples)}")
        target = self.open.get(place) or self._open(place, head)
        try:
            target.kspace.add(head, samples)
            target.columns.append(int(columns_of(head, self.encoding)))
            first, last = rows_of(head, self.encoding.matrix[0])
            target.rows.append((int(first), int(last)))
        except ValueError as error:
            self._leave_out(head, str(error))
        complete = bool(has_flag(head, LAST_IN_SLICE)) and int(head["idx"]["average"]) >= self.encoding.averages - 1
        return self.open.pop(place) if complete else None

    def rest(self) -> Iterator[OpenSlice]:
        """The slices of which no readout said that it was the last."""
        while self.open:
            target = self.open.pop(next(iter(self.open)))
            if target.columns:
                yield target
            else:
                self._give(target.size)

    def kspace_of(self, target: OpenSlice) -> np.ndarray:
        """K-space (C, H, W) complex64 of a complete slice, as a file's would be."""
        return target.kspace.finish(self.whitening)

    def finish(self, target: OpenSlice, image: np.ndarray, note: str) -> DoneSlice:
        """Keep the image (h, w) of a slice in place of its k-space."""
        rows = np.array(target.rows).T
        self.notes = (self.prewhitening, *zero_filled(self.encoding, np.array(target.columns), (rows[0], rows[1])))
        if missing := self.left_out.get(target.place):
            note = "; ".join(filter(None, (note, f"made without {missing} readouts that could not be used")))
        self._take(image.nbytes)
        self._give(target.size)
        self.done[target.place] = DoneSlice(image, target.head, note)
        return self.done[target.place]

    def series(self) -> list[tuple[RawVolume, list[DoneSlice]]]:
        """What was reconstructed: each series with its images, ordered by position."""
        keys = sorted({key for key, _ in self.done})
        varying = [len(set(values)) > 1 for values in zip(*keys, strict=True)]
        found = []
        for number, key in enumerate(keys, start=1):
            slices = {index: done for (series, index), done in self.done.items() if series == key}
            ordered = [slices[index] for index in order_slices({i: done.head for i, done in slices.items()})]
            raw = RawVolume(
                path=self.source,
                shape=(len(ordered), self.coils, self.encoding.height, self.encoding.matrix[1]),
                crop=self.encoding.crop,
                geometry=slice_geometry([done.head for done in ordered], self.encoding),
                fields=self.encoding.fields,
                suffix=series_suffix(key, varying),
                number=number,
                notes=self.notes,
                scan_id=self.identity.hexdigest(),
                slice_notes={index: done.note for index, done in enumerate(ordered) if done.note},
            )
            found.append((raw, ordered))
        return found

    def close(self) -> None:
        """Give all memory back."""
        self.open.clear()
        self.done.clear()
        self._give(self._reserved)

    def _start(self, samples: np.ndarray) -> None:
        """What the first readout of the image settles: channels and prewhitening."""
        if self.coils:
            return
        if len(samples) == 0:
            raise ScanError("'active_channels': expected at least 1, found 0")
        self.coils = len(samples)
        if self.noise.product is not None and len(self.noise.product) != self.coils:
            self.noise = NoiseCovariance()
        self.whitening, self.prewhitening = self.noise.prewhitening()

    def _add_noise(self, samples: np.ndarray) -> None:
        """Noise counts where it comes before the image."""
        if self.coils or samples.size == 0:
            return
        if self.noise.product is not None and len(self.noise.product) != len(samples):
            self.noise = NoiseCovariance()
        self.noise.add(samples)

    def _open(self, place: Place, head: np.void) -> OpenSlice:
        size = SLICE_OVERHEAD + 8 * self.coils * int(np.prod(self.encoding.matrix))
        self._take(size)
        self.open[place] = OpenSlice(place, SliceKspace(self.coils, self.encoding), head, size)
        return self.open[place]

    def _leave_out(self, head: np.void, reason: str) -> None:
        self.unusable += 1
        place = _place(head)
        if place in self.left_out or len(self.left_out) < MOST_PLACES:
            self.left_out[place] += 1
        raise UnusableReadout(f"readout {int(head['scan_counter'])} left out: {reason}")

    def _take(self, size: int) -> None:
        self.budget.take(size)
        self._reserved += size

    def _give(self, size: int) -> None:
        self.budget.give(size)
        self._reserved -= size


def _place(head: np.void) -> Place:
    return tuple(int(head["idx"][name]) for name in SERIES), int(head["idx"]["slice"])
