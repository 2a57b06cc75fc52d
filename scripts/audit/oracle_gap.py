"""The gap to a reference model, volume by volume, and whether it is small enough to call them equivalent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from scripts.audit.bootstrap import mean_with_interval


def equivalence(differences: Sequence[float], patients: Sequence[str], margin: float) -> dict:
    """Two one-sided t-tests (TOST) that the mean difference lies within ±margin, on the means of patients.

    Args:
        differences: (n,), one a volume.
        patients: (n,); a volume with an empty one counts as a patient of its own.
        margin: above 0, in the unit of the differences.

    Returns:
        ``{"margin", "p", "equivalent"}``: the larger p-value of the two tests, and whether it is below 0.05;
        both None with fewer than two patients.

    Source: Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987).

    >>> equivalence([0.01, 0.0, -0.01], ["a", "b", "c"], margin=0.1)["equivalent"]
    True
    """
    if not margin > 0:
        raise ValueError(f"equivalence: 'margin': expected above 0, found {margin}")
    owners = np.array([patient or f"\0{index}" for index, patient in enumerate(patients)])
    differences = np.asarray(differences, dtype=np.float64)
    means = np.array([differences[owners == owner].mean() for owner in np.unique(owners)])
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
    model: Sequence[float],
    references: Mapping[str, Sequence[float]],
    patients: Sequence[str],
    *,
    confidence: float = 0.9,
    samples: int = 2000,
    seed: int = 0,
    margin: float | None = None,
) -> dict:
    """Paired difference between a model and its references on the same volumes.

    Args:
        model: (n,), one value of a metric a volume.
        references: name -> (n,); the first is the reference, further ones (the same training with other seeds)
            give the band.
        patients: (n,) patient of each volume.
        confidence, samples, seed: of the bootstrap intervals.
        margin: of the equivalence test to the first reference; None: no test.

    Returns:
        ``gap``: model minus first reference; ``above``: model minus the reference with the highest mean, which
        is positive only above the band; ``below``: model minus the one with the lowest; each ``{"value",
        "interval", "volumes", "patients"}``. ``band``: with three references or more, their means as
        ``{"low", "high", "references"}``, else None. ``equivalence``: see :func:`equivalence`.

    >>> result = gap([3.0, 3.0], {"oracle": [1.0, 1.0], "oracle 2": [2.0, 2.0]}, ["a", "b"])
    >>> [result[name]["value"] for name in ("gap", "above", "below")]
    [2.0, 1.0, 2.0]
    """
    model = np.asarray(model, dtype=np.float64)
    differences = {name: model - np.asarray(values, dtype=np.float64) for name, values in references.items()}
    means = {name: float(np.mean(values)) for name, values in references.items()}
    chosen = {"gap": next(iter(references)), "above": max(means, key=means.get), "below": min(means, key=means.get)}
    result: dict = {
        part: mean_with_interval(differences[name], patients, confidence, samples, seed)
        for part, name in chosen.items()
    }
    low, high = min(means.values()), max(means.values())
    result["band"] = {"low": low, "high": high, "references": len(means)} if len(means) > 2 else None
    result["equivalence"] = None if margin is None else equivalence(differences[chosen["gap"]], patients, margin)
    return result
