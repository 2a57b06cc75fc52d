"""A likelihood audit of single patients: how much better a model knows their scans than models that never saw them.

Population attacks average over many patients and say nothing about one. Here each scan is compared with itself: its
score under the audited model, with its scores under reference models of which it is known which scans they were trained
on. The score is what training made high, here SSIM as -10·log10(1 − SSIM) in dB, or any other that is higher for what
a model knows.

Sources: Carlini et al., Membership Inference Attacks From First Principles, IEEE S&P 2022 (LiRA, offline, with one
variance for all scans where there are few models, several queries of a scan, and canaries); Zarifzadeh et al., Low-Cost
High-Power Membership Inference Attacks, ICML 2024 (RMIA, comparison with scans of the population); Hayes et al.,
Inexact Unlearning Needs More Careful Evaluations, 2024 (per-scan attacks on unlearning).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, permutation_test

MIN_REFERENCES = 2
RATE = 0.05
LEAST_POWER = 0.5
DRAWS = 999  # of the permutation test


def out_statistics(scores: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, float]:
    """What models that never saw a scan make of it.

    Args:
        scores: (m, n) of m reference models on n scans.
        members: (m, n) bool, whether a model was trained on a scan.

    Returns:
        Mean (n,) over the models that never saw a scan, and one standard deviation of such models about it for all
        scans: a few models say too little of a single scan's.

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
    variance = np.where(out, np.square(scores - mean), 0.0).sum() / (counts - 1).sum()
    return mean, float(np.sqrt(max(variance, np.finfo(np.float64).tiny)))


def lira(scores: np.ndarray, reference: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Offline LiRA: by how many standard deviations a scan's score lies above that of models which never saw it.

    Args:
        scores: (n,) of the audited model.
        reference: (m, n) of the reference models.
        members: (m, n) bool, whether a reference model was trained on a scan.

    Returns:
        (n,) scores in standard deviations of a reference model.

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
    """
    mean, _ = out_statistics(reference, members)
    gained = np.asarray(scores, dtype=np.float64) - mean
    others = gained[np.asarray(population)]
    return ((gained[:, None] > others) + 0.5 * (gained[:, None] == others)).mean(axis=1)


def patient_score(z: Sequence[float] | np.ndarray) -> float:
    """One score of a patient with several scans: their mean.

    The scans of a patient are correlated by an unknown amount; the mean is conservative.

    >>> patient_score([1.0, 3.0])
    2.0
    """
    return float(np.mean(z))


def error_rate(score: float, unseen: Sequence[float]) -> float:
    """Share of scans or patients that were never seen and score as high: (1 + those at or above) / (1 + all).

    It is the exact level of a permutation test where the audited one is exchangeable with the unseen, and never 0: with
    n unseen it cannot be below 1 / (n + 1).

    >>> error_rate(3.0, [0.0, 1.0, 2.0])
    0.25
    """
    above = int((np.asarray(unseen, dtype=np.float64) >= score).sum())
    return (1 + above) / (1 + len(unseen))


def error_interval(score: float, unseen: Sequence[float], confidence: float = 0.9) -> list[float]:
    """Exact interval of the share of all unseen patients who would score as high, from the n at hand.

    Source: Clopper and Pearson, Biometrika 26 (1934).

    >>> [round(bound, 3) for bound in error_interval(9.0, [0.0] * 20)]
    [0.0, 0.139]
    """
    above = int((np.asarray(unseen, dtype=np.float64) >= score).sum())
    if not len(unseen):
        return [0.0, 1.0]
    return [float(bound) for bound in binomtest(above, len(unseen)).proportion_ci(confidence, method="exact")]


@dataclass(frozen=True)
class Scores:
    """What one model makes of every patient, as scores that are comparable between them.

    Attributes:
        of: Patient -> score.
        kinds: Patient -> what the scans show, e.g. the anatomy; patients are compared with unseen ones of their kind.
        unseen: Patients whom the model never saw.
        canaries: Patients on whom it was trained and whom it was not made to forget.
    """

    of: Mapping[str, float]
    kinds: Mapping[str, str]
    unseen: Collection[str]
    canaries: Collection[str]

    def beside(self, patient: str) -> list[float]:
        """Scores of the unseen patients of a patient's kind."""
        return [self.of[other] for other in self.unseen if self.kinds[other] == self.kinds[patient]]

    def error_rate(self, patient: str) -> float:
        """:func:`error_rate` of a patient."""
        return error_rate(self.of[patient], self.beside(patient))

    def low_error_rate(self, patient: str) -> float:
        """The same for a score as low."""
        return error_rate(-self.of[patient], [-score for score in self.beside(patient)])

    def power(self, rate: float = RATE) -> float | None:
        """Share of the canaries that the audit finds at an error rate below ``rate``; None without canaries."""
        found = [self.error_rate(canary) < rate for canary in self.canaries]
        return float(np.mean(found)) if found else None


def why_no_power(patient: str, audited: Scores, trained: Sequence[Scores], rate: float = RATE) -> str | None:
    """Why an audit that finds nothing of a patient shows nothing; None where it would have found what is there."""
    found = audited.power(rate)
    if found is None:
        return "no canaries: no patient who was kept, and whom two reference models never saw"
    if found < LEAST_POWER:
        return f"only {found:.2f} of the {len(audited.canaries)} canaries were found"
    if not trained:
        return "no weights whose record says that they were trained on this patient"
    seen = float(np.mean([scores.error_rate(patient) < rate for scores in trained]))
    if seen < LEAST_POWER:
        return f"of the weights that were trained on this patient, the audit finds the patient in {seen:.2f} only"
    return None


def verdict(patient: str, audited: Scores, trained: Sequence[Scores], rate: float = RATE) -> dict:
    """What the audit says of one patient.

    Args:
        patient: The patient.
        audited: Scores under the audited weights.
        trained: Scores under each of the weights that were trained on the patient: the original and, if there are
            any, reference models.
        rate: The error rate below which a score counts as known.

    Returns:
        ``score``, ``error_rate`` with its ``interval``, ``low_error_rate``, ``verdict`` and ``because``. *known*: the
        score is higher than chance allows. *over-forgotten*: it is lower than chance allows, which is a trace, too.
        *not found*: it is neither, and the audit finds at least half of the canaries, and the patient in at least half
        of the weights that were trained on them. *no power*: it is neither, but the audit would not have seen it.
        *undecided*: too few unseen patients of the kind for this error rate.

    >>> unseen = {f"U{i}": 0.1 * i - 1 for i in range(21)}
    >>> def scores(value):
    ...     of = {**unseen, "P": value, "canary": 4.0}
    ...     return Scores(of, dict.fromkeys(of, "brain"), list(unseen), ["canary"])
    >>> [verdict("P", scores(value), [scores(6.0)])["verdict"] for value in (5.0, 0.0, -5.0)]
    ['known', 'not found', 'over-forgotten']
    """
    unseen, above, below = audited.beside(patient), audited.error_rate(patient), audited.low_error_rate(patient)
    smallest = 1 / (1 + len(unseen))
    blind = why_no_power(patient, audited, trained, rate)
    if smallest >= rate:
        word, because = "undecided", f"{len(unseen)} unseen patients allow no error rate below {smallest:.3f}"
    elif above < rate:
        word, because = "known", f"at most {above:.3f} of the unseen score as high"
    elif below < rate:
        word, because = "over-forgotten", f"at most {below:.3f} of the unseen score as low"
    elif blind is not None:
        word, because = "no power", blind
    else:
        word, because = "not found", f"{above:.3f} of the unseen score as high"
    return {
        "score": audited.of[patient],
        "error_rate": above,
        "interval": error_interval(audited.of[patient], unseen),
        "low_error_rate": below,
        "verdict": word,
        "because": because,
    }


def joint_error_rate(patients: Collection[str], scores: Scores, low: bool = False) -> float:
    """The error rate of the claim that a model knows some of several patients; of one patient it is their own.

    Of several it is twice the smaller of two: the smallest one times their number (Bonferroni; one patient of many is
    known), and a permutation test of their mean against the unseen (all are known a little). Scores are taken from
    the mean of the unseen of their kind for it.

    Args:
        patients: The patients.
        scores: Under the model.
        low: Whether low scores are what is claimed.
    """
    rates = [scores.low_error_rate(p) if low else scores.error_rate(p) for p in patients]
    if len(rates) == 1:
        return rates[0]
    sign = -1.0 if low else 1.0
    centred = [
        [sign * (scores.of[p] - float(np.mean(scores.beside(p) or [0.0]))) for p in part]
        for part in (patients, scores.unseen)
    ]
    permuted = permutation_test(centred, _lead, n_resamples=DRAWS, alternative="greater", rng=np.random.default_rng(0))
    return min(1.0, 2 * min(len(rates) * min(rates), float(permuted.pvalue)))


def _lead(own: np.ndarray, others: np.ndarray, axis: int = -1) -> np.ndarray:
    """How much higher the mean of the first group is."""
    return np.asarray(np.mean(own, axis=axis) - np.mean(others, axis=axis))
