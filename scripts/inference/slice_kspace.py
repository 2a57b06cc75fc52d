"""From readouts to the k-space of one slice; files and server share it, so equal readouts give equal k-space."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scripts.inference.encoding import Encoding
from scripts.inference.readouts import REVERSE, Heads, columns_of, has_flag, rows_of


class SliceKspace:
    """Sums the readouts of a slice on its grid; lines that were measured several times are averaged.

    Args:
        coils: Receive channels.
        encoding: The grid.
        allocate: Makes the array of zeros; for instance one that lies in a file.
    """

    def __init__(self, coils: int, encoding: Encoding, allocate: Callable[..., np.ndarray] = np.zeros) -> None:
        self.encoding = encoding
        self.total = allocate((encoding.matrix[1], coils, encoding.matrix[0]), np.complex64)
        self.count = np.zeros(encoding.matrix[1], np.int64)

    def add(self, head: Heads, samples: np.ndarray) -> None:
        """Add one readout (C, samples) complex64, reversed ones turned round.

        Raises:
            ValueError: it does not fit the grid; the field is named.
        """
        _, coils, height = self.total.shape
        length = int(head["number_of_samples"])
        if samples.shape != (coils, length):
            raise ValueError(f"expected {coils} coils of {length} complex samples, found {samples.shape}")
        before, after = int(head["discard_pre"]), int(head["discard_post"])
        kept = samples[:, before : length - after]
        if has_flag(head, REVERSE):
            kept = kept[:, ::-1]
        first, last = (int(row) for row in rows_of(head, height))
        if not 0 <= first < last <= height:
            raise ValueError(
                f"'center_sample': {length} samples centred at {int(head['center_sample'])} do not fit the "
                f"encoded matrix of {height}"
            )
        column = int(columns_of(head, self.encoding))
        self.total[column, :, first:last] += kept
        self.count[column] += 1

    def finish(self, whitening: np.ndarray | None) -> np.ndarray:
        """K-space (C, height, W) complex64: averaged, prewhitened and without readout oversampling.

        Args:
            whitening: The whitening matrix of :class:`scripts.inference.prewhitening.NoiseCovariance`; None: noise is
                left as it is.
        """
        kspace = self.total / np.maximum(self.count, 1).astype(np.float32)[:, None, None]
        if whitening is not None:
            kspace = whitening @ kspace
        return np.ascontiguousarray(_reduced(kspace, self.encoding.height).transpose(1, 2, 0))


def _reduced(lines: np.ndarray, height: int) -> np.ndarray:
    """K-space lines (…, H) of the central ``height`` pixels alone: readout oversampling removed."""
    full = lines.shape[-1]
    if full == height:
        return lines
    image = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(lines, axes=-1), norm="ortho"), axes=-1)
    start = full // 2 - height // 2
    image = np.fft.ifftshift(image[..., start : start + height], axes=-1)
    return np.fft.fftshift(np.fft.fft(image, norm="ortho"), axes=-1).astype(np.complex64)
