"""Membership: can the model's error tell a forget training volume from an unseen one, or from what a model knows?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scripts.audit.measure import (
    AUDITED,
    CALIBRATION,
    ORACLE,
    ORIGINAL,
    QUERY,
    Measure,
    figure,
    references,
    with_interval,
)
from scripts.audit.quality import NO_ORACLE, Values, distribution_distance
from scripts.audit.statistics import Statistics, not_measured
from scripts.evaluation.bootstrap import patient_counts, percentile_interval
from scripts.evaluation.reconstruct import Models
from scripts.evaluation.results import ZERO_FILLED, Results
from scripts.evaluation.table import Table, number

FALSE_POSITIVE_RATE = 0.01
SCORES = {"error": "error (PSNR)", "gain": "error less predictability (PSNR − zero-filled PSNR)"}


def auc(members: Sequence[float] | np.ndarray, others: Sequence[float] | np.ndarray) -> float:
    """Probability that a member scores higher than a non-member, ties counted half (Mann-Whitney).

    Args:
        members: (m,) scores of training volumes; a higher score says "member".
        others: (n,) scores of volumes that the model never saw.

    Source: Hanley and McNeil, Radiology 143 (1982).

    >>> auc([3.0, 2.0], [1.0, 2.0])
    0.875
    """
    return float(_wins(members, others).mean())


def tpr_at_fpr(
    members: Sequence[float] | np.ndarray, others: Sequence[float] | np.ndarray, rate: float = FALSE_POSITIVE_RATE
) -> float:
    """Largest share of members found by a threshold that takes at most a share ``rate`` of the others for members.

    With fewer than 1 / rate others it is the share of members above every one of them.

    Source: Carlini et al., Membership Inference Attacks From First Principles, IEEE S&P 2022.

    >>> tpr_at_fpr([5.0, 4.0, 0.0], [1.0, 2.0, 3.0])
    0.6666666666666666
    """
    others = np.sort(np.asarray(others, dtype=np.float64))[::-1]
    allowed = int(np.floor(rate * len(others)))
    if allowed == len(others):
        return 1.0
    return float((np.asarray(members, dtype=np.float64) > others[allowed]).mean())


def attack(
    members: Sequence[float] | np.ndarray,
    others: Sequence[float] | np.ndarray,
    patients: tuple[Sequence[str], Sequence[str]],
    statistics: Statistics,
    references: Sequence[tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]] = (),
) -> dict:
    """The attack on one model, beside the same attack on models that cannot know (the oracle and its seeds).

    Args:
        members: (m,) scores of the forget training volumes.
        others: (n,) scores of the unseen forget-domain volumes.
        patients: The (m,) patients of the members and the (n,) patients of the others.
        statistics: The settings of the bootstrap over patients; both groups are drawn apart, references are paired.
        references: (members, others) scores of each reference model on the same volumes.

    Returns:
        ``auc``, ``{"value", "interval"}``; ``tpr`` at 1 % false positives; ``reference_auc`` and
        ``reference_tpr`` of the first reference; ``above`` and ``below``: difference to the reference with the
        highest and with the lowest AUC, ``{"value", "interval"}``; without a reference these four are None.
    """
    left = patient_counts(patients[0], statistics.samples, statistics.seed)
    right = patient_counts(patients[1], statistics.samples, statistics.seed + 1)
    scores = [(members, others), *references]
    values = [auc(*pair) for pair in scores]
    replicates = [None if left is None or right is None else _replicates(*pair, left, right) for pair in scores]

    def interval(index: int | None) -> list[float] | None:
        own, other = replicates[0], None if index is None else replicates[index]
        if own is None:
            return None
        return percentile_interval(own if other is None else own - other, statistics.confidence)

    result: dict = {
        "auc": {"value": values[0], "interval": interval(None)},
        "tpr": tpr_at_fpr(members, others),
        "members": len(members),
        "others": len(others),
        **dict.fromkeys(("reference_auc", "reference_tpr", "above", "below")),
    }
    if references:
        highest, lowest = 1 + int(np.argmax(values[1:])), 1 + int(np.argmin(values[1:]))
        result["reference_auc"], result["reference_tpr"] = values[1], tpr_at_fpr(*references[0])
        result["above"] = {"value": values[0] - values[highest], "interval": interval(highest)}
        result["below"] = {"value": values[0] - values[lowest], "interval": interval(lowest)}
    return result


def _wins(members: Sequence[float] | np.ndarray, others: Sequence[float] | np.ndarray) -> np.ndarray:
    """(m, n): 1 where the member scores higher, 0.5 in a tie."""
    left, right = np.asarray(members, dtype=np.float64)[:, None], np.asarray(others, dtype=np.float64)[None]
    return (left > right) + 0.5 * (left == right)


def _replicates(
    members: Sequence[float] | np.ndarray,
    others: Sequence[float] | np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
) -> np.ndarray:
    """(samples,) the AUC of each bootstrap sample."""
    pairs = np.einsum("sm,mn,sn->s", left, _wins(members, others), right, optimize=True)
    return pairs / (left.sum(axis=1) * right.sum(axis=1))


def membership(results: Results, statistics: Statistics, audited: str = AUDITED) -> dict:
    """The attack with two scores, both in dB, higher for members.

    ``error``: the PSNR. ``gain``: the PSNR less that of the zero-filled image of the same volume: how hard a scan
    is to reconstruct is taken out by a predictability estimate that needs no training (after Shafran et al. 2021,
    Membership Inference Attacks are Easier on Difficult Problems).
    """
    missing = [cohort for cohort in ("UA", "KTA") if cohort not in results.cohorts]
    if missing:
        return not_measured(f"no volumes in {', '.join(missing)}")

    def score(model: str, cohort: str, gain: bool) -> np.ndarray:
        return results.values(model, cohort, "psnr") - gain * results.values(ZERO_FILLED, cohort, "psnr")

    def scores(model: str, gain: bool) -> tuple[np.ndarray, np.ndarray]:
        return score(model, "UA", gain), score(model, "KTA", gain)

    patients = results.patients("UA"), results.patients("KTA")
    found = {}
    for name, gain in (("error", False), ("gain", True)):
        known = [scores(model, gain) for model in references(results.models)]
        entry = attack(*scores(audited, gain), patients, statistics, known)
        entry["original_auc"] = auc(*scores(ORIGINAL, gain))
        found[name] = {key: NO_ORACLE if value is None else value for key, value in entry.items()}
    return found


class Membership(Measure):
    """The attack on the forget training set, see :func:`membership`."""

    name = "membership"
    title = "Membership inference"
    gates = (r"(error|gain)/(auc|above|below)",)

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        """See :func:`membership`."""
        return membership(results, statistics)

    def control(self, results: Results, statistics: Statistics) -> dict:
        """The attack on the original."""
        return membership(results, statistics, audited=ORIGINAL)

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row a score."""
        rows = [
            [
                SCORES[name],
                with_interval(attack["auc"]),
                figure(attack["reference_auc"]),
                figure(attack["original_auc"]),
                with_interval(attack["above"], 2, True),
                f"{figure(attack['tpr'])} / {figure(attack['reference_tpr'])}",
            ]
            for name, attack in entry.items()
        ]
        columns = ["score", f"AUC [{share}]", "oracle's AUC", "original's AUC", "difference to oracle"]
        sizes = entry["error"]
        note = (
            f"{sizes['members']} forget training volumes against {sizes['others']} unseen ones of the forget domain; "
            "0.5 is chance, and only the difference to the oracle, which cannot know, speaks of memory."
        )
        return Table(cls.title, note, [*columns, "TPR at 1 % FPR: model / oracle"], rows)


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


class HaveYouForgotten(Measure):
    """The Kolmogorov-Smirnov ratio on the forget training volumes, in PSNR, see :func:`forgotten_ratio`."""

    name = "have_you_forgotten"
    title = "Have you forgotten? (KS ratio)"

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        """See the class."""
        calibration = CALIBRATION if CALIBRATION in results.models else (references(results.models) or [ORACLE])[0]
        if "UA" not in results.cohorts:
            return not_measured("no volumes in UA")
        if QUERY not in results.models:
            return not_measured("no query weights (trained on the forget set alone)")
        if calibration not in results.models:
            return not_measured("no calibration weights (never saw the forget set) and no oracle")
        values = (results.values(model, "UA", "psnr") for model in (AUDITED, QUERY, calibration))
        return {**forgotten_ratio(*values), "calibration": calibration}

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row."""
        row = [number(entry["ratio"]), number(entry["model_ks"]), number(entry["calibration_ks"]), entry["calibration"]]
        note = "1 or more: no closer to a model trained on the forget set alone than one that never saw it."
        return Table(
            cls.title, note, ["ratio", "KS of the model", "KS of the calibration model", "calibration model"], [row]
        )
