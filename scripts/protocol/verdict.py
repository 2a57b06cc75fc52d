"""What the numbers amount to, by fixed rules, in words."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.evaluation.metrics import METRICS
from scripts.protocol.results import TRAINED, ZERO_FILLED, Row
from scripts.protocol.summary_figures import mean_psnr

PSNR = METRICS[0]


def verdict_table(quality: Sequence[Row], gaps: Sequence[Row], efficiency: Sequence[Row]) -> list[Row]:
    """One line a method, the one closest to the oracle first.

    ``largest_gap`` is the largest absolute PSNR difference to the oracle over BTA, KTA and UA [dB]. ``gap_closed`` is
    the share of the knowledge gap that unlearning closed, (KTA(G) − KTA) / (KTA(G) − KTA(oracle)): 1 is the oracle,
    above 1 the model is worse on the forget test set than one that never saw it. None where G does not exceed the
    oracle there.
    """
    psnr = mean_psnr(quality)
    shares = {row["model"]: row["passes_share"] for row in efficiency}
    known = psnr.get("G", {}).get("KTA", 0.0) - psnr.get("oracle", {}).get("KTA", 0.0)
    rows = []
    for model in dict.fromkeys(row["model"] for row in gaps):
        own = [row for row in gaps if row["model"] == model and row["metric"] == PSNR]
        if model in TRAINED or "KTA" not in psnr[model]:
            continue
        rows.append(
            {
                "model": model,
                "largest_gap": max((row["difference"] for row in own), key=abs),
                "in": max(own, key=lambda row: abs(row["difference"]))["cohort"],
                "gap_closed": (psnr["G"]["KTA"] - psnr[model]["KTA"]) / known if "G" in psnr and known > 0 else None,
                "retain_gap": next((row["difference"] for row in own if row["cohort"] == "BTA"), None),
                "cohorts_within_band": sum(bool(row["within_band"]) for row in own),
                "passes_share": shares.get(model),
                "records": own[0]["records"],
            }
        )
    return sorted(rows, key=lambda row: abs(row["largest_gap"]))


def verdict_sentences(rows: Sequence[Row], quality: Sequence[Row], failed: int) -> list[str]:
    """The verdict for a reader: what there was to forget, which method came closest, what it cost, what failed."""
    psnr = mean_psnr(quality)
    sentences = []
    if "G" in psnr and psnr["G"].get("BTA", 0.0) <= psnr.get(ZERO_FILLED, {}).get("BTA", -1.0):
        sentences.append(
            "The original reconstructs the retain test set no better than the zero-filled image: it is hardly trained, "
            "and nothing below should be generalised."
        )
    if {"G", "oracle"} <= set(psnr):
        known = psnr["G"]["KTA"] - psnr["oracle"]["KTA"]
        retain = psnr["G"]["BTA"] - psnr["oracle"]["BTA"]
        sentences.append(
            f"The original reconstructs the forget test set {abs(known):.2f} dB "
            f"{'better' if known > 0 else 'worse'} than an oracle that never saw such data: "
            + ("this is the knowledge that unlearning has to remove" if known > 0 else "there is nothing to forget")
            + f". On the retain test set the two differ by {retain:+.2f} dB."
        )
    if rows:
        best = rows[0]
        text = (
            f"{best['model']} comes closest to the oracle: its largest difference over the three cohorts is "
            f"{best['largest_gap']:+.2f} dB, in {best['in']}"
        )
        if best["gap_closed"] is not None:
            text += f"; it closes {100 * best['gap_closed']:.0f} % of the knowledge gap"
        if best["passes_share"] is not None:
            text += f", for {100 * best['passes_share']:.1f} % of the passes of training anew"
        sentences.append(text + ".")
        over = [row["model"] for row in rows if row["gap_closed"] is not None and row["gap_closed"] > 1.25]
        if over:
            sentences.append(
                f"{_listed(over)} {'overshoots' if len(over) == 1 else 'overshoot'}: on the forget test set worse than "
                "a model that never saw such data, which may itself betray that something was removed."
            )
        under = [row["model"] for row in rows if row["gap_closed"] is not None and row["gap_closed"] < 0.25]
        if under:
            leave = "leaves" if len(under) == 1 else "leave"
            sentences.append(f"{_listed(under)} {leave} most of the knowledge in place.")
    if failed:
        runs = "1 run did" if failed == 1 else f"{failed} runs did"
        sentences.append(f"{runs} not finish and count for nothing here; see the runs below.")
    return sentences or ["There are not enough finished runs for a verdict."]


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
