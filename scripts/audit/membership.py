"""Membership: can the model's error tell a forget training volume from an unseen one, or from what a model knows?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scripts.audit.measure import (
    AUDITED,
    NO_ORACLE,
    ORIGINAL,
    Measure,
    Statistics,
    figure,
    not_measured,
    references,
    with_interval,
)
from scripts.evaluation.bootstrap import patient_counts, percentile_interval
from scripts.evaluation.reconstruct import Models
from scripts.evaluation.results import ZERO_FILLED, Results
from scripts.evaluation.table import Table

Scores = Sequence[float] | np.ndarray
FALSE_POSITIVE_RATE = 0.01
SCORES = {"error": "error (PSNR)", "gain": "error less predictability (PSNR − zero-filled PSNR)"}


def auc(members: Scores, others: Scores) -> float:
    """Probability that a member scores higher than a non-member, ties counted half (Mann-Whitney).

    Args:
        members: (m,) scores of training volumes; a higher score says "member".
        others: (n,) scores of volumes that the model never saw.

    Source: Hanley and McNeil, Radiology 143 (1982).

    >>> auc([3.0, 2.0], [1.0, 2.0])
    0.875
    """
    return float(_wins(members, others).mean())


def tpr_at_fpr(members: Scores, others: Scores, rate: float = FALSE_POSITIVE_RATE) -> float:
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
    members: Scores,
    others: Scores,
    patients: tuple[Sequence[str], Sequence[str]],
    statistics: Statistics,
    references: Sequence[tuple[Scores, Scores]] = (),
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
    replicates: list[np.ndarray] = []  # (samples,) the AUC of each bootstrap sample, for each model
    if left is not None and right is not None:
        pairs = left.sum(axis=1) * right.sum(axis=1)
        replicates = [np.einsum("sm,mn,sn->s", left, _wins(*pair), right, optimize=True) / pairs for pair in scores]

    def interval(index: int | None) -> list[float] | None:
        if not replicates:
            return None
        less = 0.0 if index is None else replicates[index]
        return percentile_interval(replicates[0] - less, statistics.confidence)

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


def _wins(members: Scores, others: Scores) -> np.ndarray:
    """(m, n): 1 where the member scores higher, 0.5 in a tie."""
    left, right = np.asarray(members, dtype=np.float64)[:, None], np.asarray(others, dtype=np.float64)[None]
    return (left > right) + 0.5 * (left == right)


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
        return membership(results, statistics)

    def control(self, results: Results, statistics: Statistics) -> dict:
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
