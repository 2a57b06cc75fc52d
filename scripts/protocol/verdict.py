"""What the numbers amount to, by fixed rules, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.evaluation.results import ZERO_FILLED
from scripts.protocol.effort import Cost
from scripts.protocol.quality import Gap, Quality, mean_psnr
from scripts.protocol.results import TRAINED


@dataclass(frozen=True)
class Verdict:
    """How close a method came to the oracle, and at what price.

    Attributes:
        model: The method.
        largest_gap: The largest absolute PSNR difference to the oracle over BTA, KTA and UA [dB], with its sign.
        cohort: Where that is.
        gap_closed: The share of the knowledge gap that unlearning closed, (KTA(G) − KTA) / (KTA(G) − KTA(oracle)): 1
            is the oracle, above 1 the model is worse on the forget test set than one that never saw it; None where G
            does not exceed the oracle there.
        retain_gap: PSNR difference to the oracle on BTA [dB].
        cohorts_within_band: In how many cohorts the mean PSNR lies within the oracle's seeds.
        passes_share: Passes as a share of training the oracle.
        records: The record files that this comes from.
    """

    model: str
    largest_gap: float
    cohort: str
    gap_closed: float | None
    retain_gap: float | None
    cohorts_within_band: int
    passes_share: float | None
    records: str


def verdict_rows(quality: Sequence[Quality], gaps: Sequence[Gap], costs: Sequence[Cost]) -> list[Verdict]:
    """One row a method, the one closest to the oracle first."""
    psnr = mean_psnr(quality)
    shares = {row.model: row.passes_share for row in costs}
    known = psnr.get("G", {}).get("KTA", 0.0) - psnr.get("oracle", {}).get("KTA", 0.0)
    rows = []
    for model in dict.fromkeys(row.model for row in gaps):
        own = [row for row in gaps if row.model == model and row.metric == "psnr"]
        if model in TRAINED or "KTA" not in psnr[model]:
            continue
        largest = max(own, key=lambda row: abs(row.difference))
        rows.append(
            Verdict(
                model=model,
                largest_gap=largest.difference,
                cohort=largest.cohort,
                gap_closed=(psnr["G"]["KTA"] - psnr[model]["KTA"]) / known if "G" in psnr and known > 0 else None,
                retain_gap=next((row.difference for row in own if row.cohort == "BTA"), None),
                cohorts_within_band=sum(bool(row.within_band) for row in own),
                passes_share=shares.get(model),
                records=own[0].records,
            )
        )
    return sorted(rows, key=lambda row: abs(row.largest_gap))


def verdict_sentences(rows: Sequence[Verdict], quality: Sequence[Quality], failed: int) -> list[str]:
    """The verdict for a reader: what there was to forget, which method came closest, what it cost, what failed."""
    psnr = mean_psnr(quality)
    sentences = []
    if "G" in psnr and psnr["G"].get("BTA", 0.0) <= psnr.get(ZERO_FILLED, {}).get("BTA", -1.0):
        sentences.append(
            "The original reconstructs the retain test set no better than the zero-filled image: it is hardly trained, "
            "and nothing below should be generalised."
        )
    if {"G", "oracle"} <= set(psnr):
        sentences.append(_to_forget(psnr["G"], psnr["oracle"]))
    if rows:
        sentences += [_closest(rows[0]), *_outliers(rows)]
    if failed:
        runs = "1 run did" if failed == 1 else f"{failed} runs did"
        sentences.append(f"{runs} not finish and count for nothing here; see the runs below.")
    return sentences or ["There are not enough finished runs for a verdict."]


def _to_forget(original: Mapping[str, float], oracle: Mapping[str, float]) -> str:
    known, retain = (original[cohort] - oracle[cohort] for cohort in ("KTA", "BTA"))
    better = "better" if known > 0 else "worse"
    task = "this is the knowledge that unlearning has to remove" if known > 0 else "there is nothing to forget"
    return (
        f"The original reconstructs the forget test set {abs(known):.2f} dB {better} than an oracle that never saw "
        f"such data: {task}. On the retain test set the two differ by {retain:+.2f} dB."
    )


def _closest(best: Verdict) -> str:
    text = (
        f"{best.model} comes closest to the oracle: its largest difference over the three cohorts is "
        f"{best.largest_gap:+.2f} dB, in {best.cohort}"
    )
    if best.gap_closed is not None:
        text += f"; it closes {100 * best.gap_closed:.0f} % of the knowledge gap"
    if best.passes_share is not None:
        text += f", for {100 * best.passes_share:.1f} % of the passes of training from scratch"
    return text + "."


def _outliers(rows: Sequence[Verdict]) -> list[str]:
    """Who overshoots, and who leaves most of the knowledge in place."""
    sentences = []
    over = [row.model for row in rows if row.gap_closed is not None and row.gap_closed > 1.25]
    if over:
        sentences.append(
            f"{_listed(over)} {'overshoots' if len(over) == 1 else 'overshoot'}: on the forget test set worse than "
            "a model that never saw such data, which may itself betray that something was removed."
        )
    under = [row.model for row in rows if row.gap_closed is not None and row.gap_closed < 0.25]
    if under:
        leave = "leaves" if len(under) == 1 else "leave"
        sentences.append(f"{_listed(under)} {leave} most of the knowledge in place.")
    return sentences


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
