"""A likelihood audit of single scans: how much better a model knows a scan than models that never saw it.

Population attacks average over many patients and say nothing about one. Here each scan is compared with itself: its
score under the audited model, with its scores under reference models of which it is known which scans they were trained
on. The score is the scan's PSNR or gain in dB, or any other that is higher for what a model knows.

Sources: Carlini et al., Membership Inference Attacks From First Principles, IEEE S&P 2022 (LiRA, offline and with
canaries); Zarifzadeh et al., Low-Cost High-Power Membership Inference Attacks, ICML 2024 (RMIA, comparison with scans
of the population); Hayes et al., Inexact Unlearning Needs More Careful Evaluations, 2024 (per-scan attacks on
unlearning).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

MIN_REFERENCES = 2
CANARY_RATE = 0.05


def membership_of(record: str | Path, sha256: Sequence[str]) -> np.ndarray:
    """Which files a training read, by the record beside its weights.

    Args:
        record: Record of ``train``, or of ``unlearn`` for the files that unlearning read.
        sha256: SHA-256 of n files.

    Returns:
        (n,) bool.

    Raises:
        ValueError: The record states no hash of some file that was read, so that membership is not known.
    """
    content = json.loads(Path(record).read_text(encoding="utf-8"))
    read = [entry.get("sha256") for part in content["data"].values() for entry in part["volumes"]]
    if not read or not all(read):
        raise ValueError(f"{record}: 'data': expected the SHA-256 of each file that was read, found some without")
    return np.array([digest in set(read) for digest in sha256])


def out_statistics(scores: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What models that never saw a scan make of it.

    Args:
        scores: (m, n) of m reference models on n scans.
        members: (m, n) bool, whether a model was trained on a scan.

    Returns:
        Mean (n,) and standard deviation (n,) over the models that never saw a scan. The deviation of each scan's few
        models is drawn half-way towards the one of all scans together, since two or three models say little alone.

    Raises:
        ValueError: A scan that fewer than two reference models have never seen.
    """
    scores, out = np.asarray(scores, dtype=np.float64), ~np.asarray(members, dtype=bool)
    counts = out.sum(axis=0)
    if (counts < MIN_REFERENCES).any():
        raise ValueError(
            f"likelihood audit: expected at least {MIN_REFERENCES} reference models that never saw a scan, found "
            f"{int(counts.min())} for scan {int(counts.argmin())}"
        )
    mean = np.where(out, scores, 0.0).sum(axis=0) / counts
    squares = np.where(out, np.square(scores - mean), 0.0).sum(axis=0)
    pooled = squares.sum() / (counts - 1).sum()
    variance = (squares + pooled * (counts - 1)) / (2 * (counts - 1))
    return mean, np.sqrt(np.maximum(variance, np.finfo(np.float64).tiny))


def lira(scores: np.ndarray, reference: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Offline LiRA: by how many standard deviations a scan's score lies above that of models which never saw it.

    Args:
        scores: (n,) of the audited model.
        reference: (m, n) of the reference models.
        members: (m, n) bool, whether a reference model was trained on a scan.

    Returns:
        (n,) z-scores; a standard normal variable for a scan that the audited model never saw.

    >>> reference = np.array([[20.0, 21.0], [22.0, 23.0]])
    >>> lira(np.array([21.0, 25.0]), reference, np.zeros((2, 2), dtype=bool)).round(3).tolist()
    [0.0, 2.121]
    """
    mean, spread = out_statistics(reference, members)
    return (np.asarray(scores, dtype=np.float64) - mean) / spread


def rmia(scores: np.ndarray, reference: np.ndarray, members: np.ndarray, population: Sequence[int]) -> np.ndarray:
    """RMIA: the share of population scans than which a scan has become more likely by the audited model's training.

    The likelihood ratio of scan x to population scan z is exp((s(x) − s̄(x)) − (s(z) − s̄(z))), with s the score under
    the audited model and s̄ the mean under models that never saw the scan; at γ = 1 its logarithm has to be above 0.

    Args:
        scores: (n,) of the audited model.
        reference: (m, n) of the reference models.
        members: (m, n) bool, whether a reference model was trained on a scan.
        population: Indices of scans that the audited model never saw.

    Returns:
        (n,) shares in [0, 1]; ties count half.

    Raises:
        ValueError: No population scan.
    """
    if not len(population):
        raise ValueError("likelihood audit: expected population scans that the model never saw, found none")
    mean, _ = out_statistics(reference, members)
    gained = np.asarray(scores, dtype=np.float64) - mean
    others = gained[np.asarray(population)]
    return ((gained[:, None] > others) + 0.5 * (gained[:, None] == others)).mean(axis=1)


def patient_score(z: Sequence[float]) -> float:
    """One z-score of a patient with several scans: their sum over the root of their number (Stouffer).

    Where the scans of one patient go together, the true error rate is higher than that of independent ones; canaries
    with as many scans show by how much.

    >>> patient_score([1.0, 1.0, 1.0, 1.0])
    2.0
    """
    return float(np.sum(z) / math.sqrt(len(z)))


def error_rate(score: float, unseen: Sequence[float]) -> float:
    """Share of scans or patients that were never seen and score as high: (1 + those at or above) / (1 + all).

    It is the exact level of a permutation test where the audited one is exchangeable with the unseen, and never 0: with
    n unseen it cannot be below 1 / (n + 1).

    >>> error_rate(3.0, [0.0, 1.0, 2.0])
    0.25
    """
    above = int((np.asarray(unseen, dtype=np.float64) >= score).sum())
    return (1 + above) / (1 + len(unseen))


def power(canaries: Sequence[float], unseen: Sequence[float], rate: float = CANARY_RATE) -> float:
    """Share of planted canaries, known to be members, that the audit finds at an error rate of at most ``rate``.

    >>> power([5.0, 6.0, 0.0, 7.0], [0.0, 1.0, 2.0], rate=0.25)
    0.75
    """
    return float(np.mean([error_rate(score, unseen) <= rate for score in canaries]))


def verdict(score: float, unseen: Sequence[float], canaries: Sequence[float], rate: float = CANARY_RATE) -> dict:
    """What the audit says of one scan or patient.

    Args:
        score: Its score, by :func:`lira`, :func:`rmia` or :func:`patient_score`.
        unseen: (k,) scores of scans or patients that the audited model never saw.
        canaries: (c,) scores of planted ones that it was trained on and has not been made to forget; they show that the
            audit can see what is there.
        rate: The error rate up to which a score counts as known.

    Returns:
        ``score``, ``error_rate``, ``power`` (None without canaries), ``verdict`` and ``because``. *known*: the score is
        higher than chance allows. *not found*: it is not, and the audit finds at least half of the canaries at this
        rate. *over-forgotten*: it is lower than chance allows, which is a trace, too. *undecided*: no canaries, too few
        of them found, or too few unseen for this error rate.

    >>> unseen, canaries = [0.1 * i - 1 for i in range(21)], [4.0, 5.0, 6.0]
    >>> [verdict(score, unseen, canaries)["verdict"] for score in (5.0, 0.0, -5.0)]
    ['known', 'not found', 'over-forgotten']
    """
    above, below = error_rate(score, unseen), error_rate(-score, [-one for one in unseen])
    found = power(canaries, unseen, rate) if len(canaries) else None
    if 1 / (1 + len(unseen)) > rate:
        word, because = "undecided", f"{len(unseen)} unseen allow no error rate below {1 / (1 + len(unseen)):.3f}"
    elif above <= rate:
        word, because = "known", f"at most {above:.3f} of the unseen score as high"
    elif below <= rate:
        word, because = "over-forgotten", f"at most {below:.3f} of the unseen score as low"
    elif found is None or found < 0.5:
        word = "undecided"
        because = "no canaries" if found is None else f"only {found:.2f} of the canaries were found"
    else:
        word, because = "not found", f"{above:.3f} of the unseen score as high; {found:.2f} of the canaries were found"
    return {"score": float(score), "error_rate": above, "power": found, "verdict": word, "because": because}


def audit_patients(
    scores: Mapping[str, Sequence[float]],
    unseen: Sequence[str],
    canaries: Sequence[str],
    asked: Sequence[str],
    rate: float = CANARY_RATE,
) -> dict[str, dict]:
    """:func:`verdict` of each patient asked for, forgotten and retained alike, by z-scores of the scans.

    Unlearning can expose those who stay, so ask for some of them, too: a retained patient is expected to be *known* no
    more clearly than before.

    Args:
        scores: Patient -> z-scores of the scans, see :func:`lira`.
        unseen: Patients whom the audited model never saw.
        canaries: Patients whose scans were planted.
        asked: Whose verdicts are wanted.
        rate: As for :func:`verdict`.

    Raises:
        ValueError: A patient without a score, or one in two of the lists of unseen, canaries and asked.
    """
    lists = [*unseen, *canaries, *asked]
    missing, twice = sorted(set(lists) - set(scores)), sorted({p for p in lists if lists.count(p) > 1})
    if missing or twice:
        raise ValueError(
            f"likelihood audit: expected each patient with scores and in one list, found {missing} without and {twice} "
            "twice"
        )
    joined = {patient: patient_score(scores[patient]) for patient in lists}
    never, planted = ([joined[patient] for patient in part] for part in (unseen, canaries))
    return {patient: verdict(joined[patient], never, planted, rate) for patient in asked}
