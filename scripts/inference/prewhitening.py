"""Noise prewhitening: channels whose noise is equally strong and uncorrelated.

Source: Kellman and McVeigh, Magn. Reson. Med. 54 (2005), appendix.
"""

from __future__ import annotations

import numpy as np

SAMPLES_PER_COIL = 10
"""Fewest noise samples for each channel that a covariance is estimated from."""
LARGEST_CONDITION = 1e10


class NoiseCovariance:
    """Covariance of the channels' noise, readout by readout.

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
