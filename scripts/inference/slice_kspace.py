"""From readouts to the k-space of one slice; files and server share it, so equal readouts give equal k-space."""

from __future__ import annotations

import numpy as np

from scripts.inference.encoding import Encoding
from scripts.inference.readouts import REVERSE, Heads, columns_of, has_flag, rows_of

SAMPLES_PER_COIL = 10
"""Fewest noise samples for each channel that a covariance is estimated from."""
LARGEST_CONDITION = 1e10


class NoiseCovariance:
    """Covariance of the channels' noise, readout by readout; it makes channels equally noisy and uncorrelated.

    Source: Kellman and McVeigh, Magn. Reson. Med. 54 (2005), appendix.

    Example:
        >>> noise = NoiseCovariance()
        >>> noise.add(np.array([[1, -1, 1, -1] * 5, [2, 2, -2, -2] * 5]))
        >>> noise.whitening_matrix().real.round(2)
        array([[1.41, 0.  ],
               [0.  , 0.71]], dtype=float32)
    """

    def __init__(self) -> None:
        self.product: np.ndarray | None = None
        self.samples = 0

    def add(self, readout: np.ndarray) -> None:
        """Add a readout (C, samples) complex without signal; every one has the same channels."""
        values = np.asarray(readout, np.complex128)
        product = values @ values.conj().T
        self.product = product if self.product is None else self.product + product
        self.samples += values.shape[1]

    def whitening_matrix(self) -> np.ndarray:
        """Matrix (C, C) complex64 that whitens the channels when multiplied from the left.

        It is the inverse of the covariance's Cholesky factor, scaled to determinant 1, so that the k-space keeps its
        scale: images stay in the raw data's units, not in units of the noise.

        Raises:
            ValueError: too few samples, NaN, or a channel without noise of its own.
        """
        if self.product is None:
            raise ValueError("expected noise readouts, found none")
        if self.samples < SAMPLES_PER_COIL * len(self.product):
            expected = f"at least {SAMPLES_PER_COIL} noise samples for each of {len(self.product)} channels"
            raise ValueError(f"expected {expected}, found {self.samples}")
        if not np.isfinite(self.product).all():
            raise ValueError("expected finite noise, found NaN or Inf")
        covariance = self.product / self.samples
        if not np.linalg.cond(covariance) < LARGEST_CONDITION:
            raise ValueError(
                "expected noise of its own in every channel, found channels that copy others or are silent"
            )
        inverse = np.linalg.inv(np.linalg.cholesky(covariance))
        scale = np.exp(-np.log(np.diag(inverse).real).mean())
        return (inverse * scale).astype(np.complex64)

    def prewhitening(self) -> tuple[np.ndarray | None, str]:
        """The whitening matrix, or None where the noise does not give one; and what there is to say about it."""
        try:
            return self.whitening_matrix(), "prewhitened"
        except ValueError as error:
            return None, f"not prewhitened: noise readouts: {error}"


class SliceKspace:
    """Sums the readouts of a slice on its grid; lines that were measured several times are averaged.

    Args:
        coils: Receive channels.
        encoding: The grid.
    """

    def __init__(self, coils: int, encoding: Encoding) -> None:
        self.encoding = encoding
        self.total = np.zeros((encoding.matrix[1], coils, encoding.matrix[0]), np.complex64)
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
            whitening: The whitening matrix of :class:`NoiseCovariance`; None: noise is
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
