"""Which method is best, by fixed rules: what it keeps, and what comes back when training goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from scripts.evaluation.results import ZERO_FILLED
from scripts.evaluation.table import Table, number, percent
from scripts.protocol.cells import LATER
from scripts.protocol.plan import ORACLE, ORIGINAL
from scripts.protocol.results import DELIVERED, NAMES, Results
from scripts.protocol.tables import Shown, mean_psnr

BACK = 0.5  # dB above the network that never saw the scans; what comes back beyond it was only suppressed
MOST = 0.75  # of the knowledge gap: a method that leaves more has not forgotten
EXACT, HOLDS, UNKNOWN, KEEPS, SUPPRESSES = (
    "exact", "holds when training goes on", "not measured", "leaves most in place", "suppresses",
)  # fmt: skip
TIERS = {EXACT: 0, HOLDS: 0, UNKNOWN: 1, KEEPS: 2, SUPPRESSES: 2}
NOTE = (
    "Best first, by the sum of two losses in dB beside the network that never saw the scans: what is lost on the scans "
    "kept, and the distance on the forgotten kind after training went on with the retain set alone. "
    f"“{SUPPRESSES}”: more than {BACK} dB of what seemed forgotten came back. “{KEEPS}”: {100 * MOST:.0f} % of the "
    "knowledge gap or more. Both stand below all others. An exact run has nothing of the original in it: the distance "
    "is general knowledge of images and does not count. Knowledge gap closed: 100 % is the network that never saw the "
    "scans, 0 % the original."
)


def ranking(main: Results, qualities: pd.DataFrame, costs: pd.DataFrame, words: Mapping[str, str]) -> Shown:
    """One line a method, the best first.

    The columns of the rows: ``retain_gap``, PSNR [dB] on the retain test set less that of the network that never saw
    the scans; ``forget_gap``, the same on the forget test set or the forgotten scans, the larger one; ``later_gap``,
    that after training went on for both; ``comes_back``, by how much what is above that network rises meanwhile;
    ``gap_closed``, the share of the knowledge gap that unlearning closed; ``passes_share``; ``finding``, see
    :data:`NOTE`; ``loss``, by which methods are ranked.

    Args:
        main: Every method at its main retain fraction.
        qualities: The rows of :func:`scripts.protocol.tables.quality`.
        costs: The rows of :func:`scripts.protocol.effort.costs`.
        words: Cohort -> how tables call it.
    """
    psnr, shares = mean_psnr(qualities), dict(zip(costs.model, costs.passes_share, strict=True))
    original, oracle = (psnr.get(NAMES[role], {}) for role in (ORIGINAL, ORACLE))
    known = original.get("KTA", math.nan) - oracle.get("KTA", math.nan)
    rows = []
    for model, runs in main.runs[main.runs.method != ""].groupby("model", sort=False):
        if not oracle or "KTA" not in psnr[model]:
            continue
        now, later = (_gaps(main.scores, model, state) for state in (DELIVERED, LATER))
        forgotten = [cohort for cohort in now if cohort != "BTA"]
        rises = [max(0.0, later[c]) - max(0.0, now[c]) for c in forgotten if c in later]
        row = {
            "model": model,
            "retain_gap": now["BTA"],
            "forget_gap": max((now[c] for c in forgotten), key=abs),
            "later_gap": max((later[c] for c in forgotten if c in later), key=abs, default=math.nan),
            "comes_back": max(0.0, *rises) if rises else math.nan,
            "gap_closed": (original["KTA"] - psnr[model]["KTA"]) / known if known > 0 else math.nan,
            "passes_share": shares.get(model, math.nan),
        }
        learnt = max(original.get(cohort, math.nan) - oracle[cohort] for cohort in forgotten)
        row["finding"] = _finding(row, learnt, exact=(runs.forgetting == EXACT).all())
        distance = row["forget_gap"] if math.isnan(row["later_gap"]) else row["later_gap"]
        row["loss"] = max(0.0, -row["retain_gap"]) + (0.0 if row["finding"] == EXACT else abs(distance))
        rows.append({**row, "records": "; ".join(dict.fromkeys(runs.records))})
    rows.sort(key=lambda row: (TIERS[row["finding"]], row["loss"]))
    names = ["model", "retain_gap", "forget_gap", "later_gap", "comes_back", "gap_closed", "passes_share", "finding"]
    frame = pd.DataFrame(rows, columns=[*names, "loss", "records"])
    cells = [
        [row["model"], *(number(row[name], sign=True) for name in names[1:5]), percent(row["gap_closed"]),
         percent(row["passes_share"]), row["finding"]] for row in rows
    ]  # fmt: skip
    columns = ["model", words["BTA"], "forgotten kind", "forgotten kind, later", "comes back", "knowledge gap closed"]
    return Shown(frame, Table("Methods, best first", NOTE, [*columns, "passes / training", "finding"], cells))


def _gaps(scores: pd.DataFrame, model: str, state: str) -> dict[str, float]:
    """Cohort -> mean PSNR of a model less that of the network that never saw the scans, both in one state."""
    scores = scores[(scores.state == state) & (scores.metric == "psnr")]
    own, oracle = (side.groupby("cohort").value.mean() for side in
                   (scores[scores.model == model], scores[scores.role == ORACLE]))  # fmt: skip
    return (own - oracle).dropna().to_dict()


def _finding(row: Mapping[str, Any], learnt: float, exact: bool) -> str:
    if exact:
        return EXACT
    if math.isnan(row["later_gap"]):
        return UNKNOWN
    if row["comes_back"] > BACK:
        return SUPPRESSES
    return KEEPS if row["later_gap"] > max(MOST * learnt, BACK) else HOLDS


def sentences(rows: pd.DataFrame, qualities: pd.DataFrame, failed: int) -> list[str]:
    """The ranking for a reader: what there was to forget, which method is best, what it cost, what failed."""
    psnr = mean_psnr(qualities)
    original, oracle = (psnr.get(NAMES[role]) for role in (ORIGINAL, ORACLE))
    said = []
    if original and original.get("BTA", 0.0) <= psnr.get(ZERO_FILLED, {}).get("BTA", -1.0):
        said.append(
            "The original reconstructs the retain test set no better than the zero-filled image: it is hardly trained, "
            "and nothing below should be generalised."
        )
    if original and oracle:
        said.append(_to_forget(original, oracle))
    if len(rows):
        said += [_best(rows.iloc[0]), *_others(rows)]
    if failed:
        runs = "1 run did" if failed == 1 else f"{failed} runs did"
        said.append(f"{runs} not finish and count for nothing here; see the runs below.")
    return said or ["There are not enough finished runs for a ranking."]


def _to_forget(original: Mapping[str, float], oracle: Mapping[str, float]) -> str:
    known, retain = (original[cohort] - oracle[cohort] for cohort in ("KTA", "BTA"))
    better = "better" if known > 0 else "worse"
    task = "this is the knowledge that unlearning has to remove" if known > 0 else "there is nothing to forget"
    return (
        f"The original reconstructs the forget test set {abs(known):.2f} dB {better} than a network that never saw "
        f"such scans: {task}. On the retain test set the two differ by {retain:+.2f} dB."
    )


def _best(best: pd.Series) -> str:
    if TIERS[best.finding]:
        why = (
            "what comes back when training goes on was not measured (further_training)"
            if best.finding == UNKNOWN
            else "each one leaves most of the knowledge in place or only suppresses it"
        )
        return f"No method leads: {why}. Closest is {best.model}."
    text = f"{best.model} is best: on the scans kept it differs from the network that never saw the scans by "
    text += f"{best.retain_gap:+.2f} dB"
    if best.finding == EXACT:
        text += ", and nothing of the original is left in it (exact)"
    else:
        text += f", and after training went on by {best.later_gap:+.2f} dB on the forgotten kind"
    return text + (f", for {percent(best.passes_share)} of training's passes." if best.passes_share > 0 else ".")


def _others(rows: pd.DataFrame) -> list[str]:
    """Who only suppresses, who overshoots, and who leaves most of the knowledge in place."""
    said = []
    judged = rows[rows.finding != EXACT]
    for found, one, several, rest in (
        (judged.finding == SUPPRESSES, "only suppresses", "only suppress",
         f" what it should forget: more than {BACK} dB of it came back when training went on without it."),
        (judged.gap_closed > 1.25, "overshoots", "overshoot",
         ": on the forget test set worse than a network that never saw such scans, which may itself betray that "
         "something was removed."),
        (judged.gap_closed < 0.25, "leaves", "leave", " most of the knowledge in place."),
    ):  # fmt: skip
        names = list(judged.model[found])
        if names:
            said.append(f"{_listed(names)} {one if len(names) == 1 else several}{rest}")
    return said


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
