"""How far the per-volume results of two models are apart as distributions."""

from __future__ import annotations

from collections.abc import Sequence

from scipy import stats


def distribution_distance(first: Sequence[float], second: Sequence[float]) -> dict[str, float]:
    """Kolmogorov-Smirnov statistic with its p-value, and Wasserstein-1 distance, of two samples.

    Args:
        first: (n,) one value a volume.
        second: (m,) the same metric of another model.

    Returns:
        ``{"ks": 0 ... 1, "ks_p", "wasserstein"}``, the last in the metric's unit.

    Source: Massey, J. Am. Stat. Assoc. 46 (1951); Vallender, Theory Probab. Appl. 18 (1974).

    >>> distribution_distance([0.0, 1.0], [10.0, 11.0])["wasserstein"]
    10.0
    """
    test = stats.ks_2samp(first, second, method="exact" if len(first) * len(second) <= 10_000 else "asymp")
    return {
        "ks": float(test.statistic),
        "ks_p": float(test.pvalue),
        "wasserstein": float(stats.wasserstein_distance(first, second)),
    }
