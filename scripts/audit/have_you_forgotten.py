"""The Kolmogorov-Smirnov ratio, which asks "have you forgotten?" without an oracle."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.audit.distribution import distribution_distance
from scripts.audit.not_measured import not_measured


def forgotten_ratio(model: Sequence[float], query: Sequence[float], calibration: Sequence[float]) -> dict:
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
