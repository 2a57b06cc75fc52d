"""Membership inference: can the model's error tell a forget training volume from an unseen one of its kind?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scripts.audit.bootstrap import patient_counts, percentile_interval

FALSE_POSITIVE_RATE = 0.01


def auc(members: Sequence[float], others: Sequence[float]) -> float:
    """Probability that a member scores higher than a non-member, ties counted half (Mann-Whitney).

    Args:
        members: (m,) scores of training volumes; a higher score says "member".
        others: (n,) scores of volumes that the model never saw.

    Source: Hanley and McNeil, Radiology 143 (1982).

    >>> auc([3.0, 2.0], [1.0, 2.0])
    0.875
    """
    return float(_wins(members, others).mean())


def tpr_at_fpr(members: Sequence[float], others: Sequence[float], rate: float = FALSE_POSITIVE_RATE) -> float:
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
    members: Sequence[float],
    others: Sequence[float],
    member_patients: Sequence[str],
    other_patients: Sequence[str],
    *,
    references: Sequence[tuple[Sequence[float], Sequence[float]]] = (),
    confidence: float = 0.9,
    samples: int = 2000,
    seed: int = 0,
) -> dict:
    """The attack on one model, beside the same attack on models that cannot know (the oracle and its seeds).

    Args:
        members: (m,) scores of the forget training volumes.
        others: (n,) scores of the unseen forget-domain volumes.
        member_patients: (m,) their patients.
        other_patients: (n,) likewise.
        references: (members, others) scores of each reference model on the same volumes.
        confidence, samples, seed: of the bootstrap over patients, both groups apart, references paired.

    Returns:
        ``auc``, ``{"value", "interval"}``; ``tpr`` at 1 % false positives; ``reference_auc`` and
        ``reference_tpr`` of the first reference; ``above`` and ``below``: difference to the reference with the
        highest and with the lowest AUC, ``{"value", "interval"}``; without a reference these four are None.
    """
    left = patient_counts(member_patients, samples, seed)
    right = patient_counts(other_patients, samples, seed + 1)
    scores = [(members, others), *references]
    values = [auc(*pair) for pair in scores]
    replicates = [None if left is None or right is None else _replicates(*pair, left, right) for pair in scores]

    def difference(index: int) -> dict:
        spread = None if replicates[0] is None else percentile_interval(replicates[0] - replicates[index], confidence)
        return {"value": values[0] - values[index], "interval": spread}

    result = {
        "auc": {
            "value": values[0],
            "interval": None if replicates[0] is None else percentile_interval(replicates[0], confidence),
        },
        "tpr": tpr_at_fpr(members, others),
        "members": len(members),
        "others": len(others),
        "reference_auc": None,
        "reference_tpr": None,
        "above": None,
        "below": None,
    }
    if references:
        result["reference_auc"] = values[1]
        result["reference_tpr"] = tpr_at_fpr(*references[0])
        result["above"] = difference(1 + int(np.argmax(values[1:])))
        result["below"] = difference(1 + int(np.argmin(values[1:])))
    return result


def _wins(members: Sequence[float], others: Sequence[float]) -> np.ndarray:
    """(m, n): 1 where the member scores higher, 0.5 in a tie."""
    left, right = np.asarray(members, dtype=np.float64)[:, None], np.asarray(others, dtype=np.float64)[None]
    return (left > right) + 0.5 * (left == right)


def _replicates(members, others, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    pairs = np.einsum("sm,mn,sn->s", left, _wins(members, others), right, optimize=True)
    return pairs / (left.sum(axis=1) * right.sum(axis=1))
