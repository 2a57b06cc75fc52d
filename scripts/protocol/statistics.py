"""The arithmetic of the study: means over seeds and volumes, bootstrap over patients, the second-degree fit."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 95  # per cent, of bootstrap intervals
DRAWS = 2000

Values = Mapping[str, float]  # volume -> value


def mean_over_seeds(seeds: Sequence[Values]) -> dict[str, float]:
    """Volume -> mean over seeds of a metric.

    >>> mean_over_seeds([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 2.0}])
    {'a': 2.0, 'b': 2.0}
    """
    return {volume: math.fsum(values[volume] for values in seeds) / len(seeds) for volume in sorted(seeds[0])}


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value).

    >>> mean_std([1.0, 3.0])
    (2.0, 1.414...)
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def bootstrap_interval(
    differences: Values, patients: Mapping[str, str], seed: int, draws: int = DRAWS
) -> tuple[float, float]:
    """Percentile interval of the mean of paired differences; patients are drawn, each with all its volumes.

    Args:
        differences: volume -> difference, in the metric's unit.
        patients: volume -> patient; a volume without one counts as its own.
        seed: fixes the draws.
        draws: bootstrap samples.

    Returns:
        Lower and upper end of the central 95 %; NaN with fewer than two patients.
    """
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for volume in sorted(differences):
        patient = patients.get(volume) or volume
        sums[patient] += differences[volume]
        counts[patient] += 1
    if len(sums) < 2:
        return math.nan, math.nan
    total, count = np.array([sums[p] for p in sums]), np.array([counts[p] for p in sums])
    drawn = np.random.default_rng(seed).integers(len(total), size=(draws, len(total)))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


@dataclass(frozen=True)
class Fit:
    """``y = a u² + b u + c`` with ``u = log10(retain fraction)``, and where it is best.

    Attributes:
        a, b, c: coefficients.
        optimum: the retain fraction at the best value within the measured range.
        value: the fit there.
        inside: whether that is the vertex of the parabola, and not an end of the range.
    """

    a: float
    b: float
    c: float
    optimum: float
    value: float
    inside: bool

    def __call__(self, fraction: float | np.ndarray) -> np.ndarray:
        u = np.log10(fraction)
        return (self.a * u + self.b) * u + self.c


def quadratic_fit(fractions: Sequence[float], values: Sequence[float], best: str = "max") -> Fit | None:
    """Least-squares second-degree polynomial over log10 of the retain fraction; None with fewer than three fractions.

    The fractions span two decades, so the logarithm keeps the many small ones from acting as one point.

    Args:
        fractions: in (0, 1].
        values: one for each fraction.
        best: ``max`` or ``min``.

    Source: Xue et al. 2024 fit BTA and run time against the retain fraction with a second-degree polynomial.
    """
    if len(set(fractions)) < 3:
        return None
    u = np.log10(np.asarray(fractions, dtype=float))
    a, b, c = (float(x) for x in np.polyfit(u, np.asarray(values, dtype=float), 2))
    sign = 1.0 if best == "max" else -1.0
    ends = [float(u.min()), float(u.max())]
    vertex = -b / (2 * a) if a else math.inf
    inside = sign * a < 0 and ends[0] < vertex < ends[1]
    candidates = [vertex] if inside else ends
    at = max(candidates, key=lambda x: sign * ((a * x + b) * x + c))
    return Fit(a, b, c, 10.0**at, (a * at + b) * at + c, inside)
