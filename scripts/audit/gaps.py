"""How far the per-volume results of two models are apart: paired, as distributions, and beside a model that knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from scripts.audit.statistics import Statistics, not_measured
from scripts.evaluation.bootstrap import mean_with_interval, owners

Values = Sequence[float] | np.ndarray


def equivalence(differences: Values, patients: Sequence[str], margin: float) -> dict:
    """Two one-sided t-tests (TOST) that the mean difference lies within ±margin, on the means of patients.

    Args:
        differences: (n,), one a volume.
        patients: (n,); a volume with an empty one counts as a patient of its own.
        margin: The margin of equivalence, above 0, in the unit of the differences.

    Returns:
        ``{"margin", "p", "equivalent"}``: the larger p-value of the two tests, and whether it is below 0.05;
        both None with fewer than two patients.

    Source: Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987).

    >>> equivalence([0.01, 0.0, -0.01], ["a", "b", "c"], margin=0.1)["equivalent"]
    True
    """
    if not margin > 0:
        raise ValueError(f"equivalence: 'margin': expected above 0, found {margin}")
    own = np.array(owners(patients))
    values = np.asarray(differences, dtype=np.float64)
    means = np.array([values[own == owner].mean() for owner in np.unique(own)])
    if len(means) < 2:
        return {"margin": margin, "p": None, "equivalent": None}
    error = means.std(ddof=1) / np.sqrt(len(means))
    if error == 0:
        p = 0.0 if abs(means[0]) < margin else 1.0
    else:
        freedom = len(means) - 1
        below = stats.t.sf((means.mean() + margin) / error, freedom)
        above = stats.t.sf((margin - means.mean()) / error, freedom)
        p = float(max(below, above))
    return {"margin": margin, "p": p, "equivalent": p < 0.05}


def gap(
    model: Values,
    references: Mapping[str, Values],
    patients: Sequence[str],
    statistics: Statistics,
    margin: float | None = None,
) -> dict:
    """Paired difference between a model and its references on the same volumes.

    Args:
        model: (n,), one value of a metric a volume.
        references: name -> (n,); the first is the reference, further ones (the same training with other seeds)
            give the band.
        patients: (n,) patient of each volume.
        statistics: The settings of the intervals.
        margin: The margin of the equivalence test to the first reference; None: no test.

    Returns:
        ``gap``: model minus first reference; ``above``: model minus the reference with the highest mean, which
        is positive only above the band; ``below``: model minus the one with the lowest; each ``{"value",
        "interval", "volumes", "patients"}``. ``band``: with three references or more, their means as
        ``{"low", "high", "references"}``, else None. ``equivalence``: see :func:`equivalence`.

    >>> result = gap([3.0, 3.0], {"oracle": [1.0, 1.0], "oracle 2": [2.0, 2.0]}, ["a", "b"], Statistics())
    >>> [result[name]["value"] for name in ("gap", "above", "below")]
    [2.0, 1.0, 2.0]
    """
    own = np.asarray(model, dtype=np.float64)
    differences = {name: own - np.asarray(values, dtype=np.float64) for name, values in references.items()}
    means = {name: float(np.mean(values)) for name, values in references.items()}
    chosen = {
        "gap": next(iter(references)),
        "above": max(means, key=lambda n: means[n]),
        "below": min(means, key=lambda n: means[n]),
    }
    result: dict = {
        part: mean_with_interval(differences[name], patients, **statistics.draw) for part, name in chosen.items()
    }
    low, high = min(means.values()), max(means.values())
    result["band"] = {"low": low, "high": high, "references": len(means)} if len(means) > 2 else None
    result["equivalence"] = None if margin is None else equivalence(differences[chosen["gap"]], patients, margin)
    return result


def distribution_distance(first: Values, second: Values) -> dict[str, float]:
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


def forgotten_ratio(model: Values, query: Values, calibration: Values) -> dict:
    """ρ = KS(model, query model) / KS(calibration model, query model), all on the forget training volumes.

    The query model was trained on the forget data alone: it looks like a model that remembers. The calibration
    model never saw them. ρ >= 1: the audited model looks no more like one that remembers than one that never
    knew; ρ near 0: it remembers. A high ρ does not tell forgetting from damage: that is what the gap is for.

    Args:
        model: (n,) one value of a metric for each forget training volume, from the audited model.
        query: (n,) the same from the query model.
        calibration: (n,) the same from the calibration model.

    Returns:
        ``{"ratio", "model_ks", "calibration_ks", "forgotten"}``; not measured where the calibration model cannot
        be told from the query model.

    Source: Liu and Tsaftaris, Have You Forgotten?, MICCAI 2020 (arXiv 2004.10129), with a metric of the
    reconstruction in place of a classifier's outputs.

    >>> forgotten_ratio([1.0, 2.0], query=[8.0, 9.0], calibration=[1.0, 3.0])["ratio"]
    1.0
    """
    numerator = distribution_distance(model, query)["ks"]
    denominator = distribution_distance(calibration, query)["ks"]
    if denominator == 0:
        return not_measured("the calibration model's results do not differ from the query model's")
    ratio = numerator / denominator
    return {"ratio": ratio, "model_ks": numerator, "calibration_ks": denominator, "forgotten": ratio >= 1}
