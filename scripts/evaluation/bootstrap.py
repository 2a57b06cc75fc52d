"""Patient-level bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

MIN_PATIENTS = 2


class Estimate(TypedDict):
    """A mean over so many volumes of so many patients, in the form in which it stands in result files."""

    value: float
    interval: list[float] | None  # low, high; None with fewer than two patients
    volumes: int
    patients: int


def owners(patients: Sequence[str]) -> list[str]:
    """The patient of each volume, with a name of its own for every volume whose patient is not known.

    >>> owners(["P1", ""])
    ['P1', '\\x001']
    """
    return [patient or f"\0{index}" for index, patient in enumerate(patients)]


def patient_counts(patients: Sequence[str], samples: int, seed: int) -> np.ndarray | None:
    """How often each of n volumes occurs in each bootstrap sample, when whole patients are drawn with replacement.

    A volume with an empty patient counts as a patient of its own.

    Returns:
        (samples, n) integers; None with fewer than two patients, of which nothing can be drawn.

    Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8.

    >>> counts = patient_counts(["a", "a", "b", ""], samples=5, seed=0)
    >>> bool((counts[:, 0] == counts[:, 1]).all()), bool((counts[:, 1:].sum(1) == 3).all())
    (True, True)
    """
    names, index = np.unique(owners(patients), return_inverse=True)
    if len(names) < MIN_PATIENTS:
        return None
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=samples)
    return draws[:, index]


def percentile_interval(replicates: np.ndarray, confidence: float) -> list[float]:
    """The central share ``confidence`` of the replicates, as [low, high]; NaN replicates are left out.

    >>> [round(bound, 6) for bound in percentile_interval(np.arange(101.0), 0.9)]
    [5.0, 95.0]
    """
    tail = (1 - confidence) / 2
    return [float(value) for value in np.nanquantile(replicates, [tail, 1 - tail])]


def mean_with_interval(
    values: Sequence[float] | np.ndarray,
    patients: Sequence[str],
    confidence: float = 0.9,
    samples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Mean over volumes of (n,) values and its patient-level bootstrap interval; see :func:`ratio_with_interval`.

    >>> mean_with_interval([1.0, 1.0, 1.0], ["a", "b", "c"], confidence=0.9, samples=50, seed=0)
    {'value': 1.0, 'interval': [1.0, 1.0], 'volumes': 3, 'patients': 3}
    """
    return ratio_with_interval(values, np.ones(len(values)), patients, confidence, samples, seed)


def ratio_with_interval(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    patients: Sequence[str],
    confidence: float = 0.9,
    samples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Ratio of the means of two paired quantities and its patient-level bootstrap interval.

    Args:
        first: (n,), one number a volume.
        second: (n,), positive numbers of the same volumes, drawn together with the first.
        patients: (n,), see :func:`patient_counts`.
        confidence: The share of replicates that the interval holds.
        samples: Number of bootstrap samples.
        seed: The seed of the draw.

    >>> ratio_with_interval([2.0, 4.0], [1.0, 2.0], ["a", "b"], samples=50)["interval"]
    [2.0, 2.0]
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    counts = patient_counts(patients, samples, seed)
    interval = None if counts is None else percentile_interval((counts @ one) / (counts @ other), confidence)
    return Estimate(
        value=float(one.mean() / other.mean()),
        interval=interval,
        volumes=len(one),
        patients=len(set(owners(patients))),
    )
