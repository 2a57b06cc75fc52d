"""Noise prewhitening: channels whose noise is equally strong and uncorrelated.

Source: Kellman and McVeigh, Magn. Reson. Med. 54 (2005), appendix.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

SAMPLES_PER_COIL = 10
"""Fewest noise samples for each channel that a covariance is estimated from."""
LARGEST_CONDITION = 1e10


def whitening_matrix(noise: Iterable[np.ndarray]) -> np.ndarray:
    """Matrix (C, C) complex64 that whitens the channels when multiplied from the left.

    It is the inverse of the covariance's Cholesky factor, scaled to determinant 1, so that the k-space keeps its
    scale: images stay in the raw data's units, not in units of the noise.

    Args:
        noise: readouts (C, samples) complex without signal.

    Raises:
        ValueError: too few samples, NaN, or a channel without noise of its own.
    """
    covariance, samples = np.zeros((0, 0)), 0
    for readout in noise:
        values = np.asarray(readout, np.complex128)
        product = values @ values.conj().T
        covariance = product if samples == 0 else covariance + product
        samples += values.shape[1]
    coils = len(covariance)
    if samples < SAMPLES_PER_COIL * max(coils, 1):
        expected = f"at least {SAMPLES_PER_COIL} noise samples for each of {coils} channels"
        raise ValueError(f"expected {expected}, found {samples}")
    if not np.isfinite(covariance).all():
        raise ValueError("expected finite noise, found NaN or Inf")
    covariance = covariance / samples
    if np.linalg.cond(covariance) > LARGEST_CONDITION:
        raise ValueError("expected noise of its own in every channel, found channels that copy others or are silent")
    inverse = np.linalg.inv(np.linalg.cholesky(covariance))
    scale = np.exp(-np.log(np.diag(inverse).real).mean())
    return (inverse * scale).astype(np.complex64)
