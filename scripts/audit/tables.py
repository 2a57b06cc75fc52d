"""The audit's results as tables, from which Markdown and HTML are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.audit.not_measured import NOT_MEASURED, is_measured
from scripts.evaluation.metrics import METRICS
from scripts.evaluation.table import COHORTS, DECIMALS, HEADINGS

MARKS = {"pass": "✓ pass", "fail": "✗ fail", "undecided": "? undecided", NOT_MEASURED: f"– {NOT_MEASURED}"}


@dataclass(frozen=True)
class Table:
    """A titled table of text; the first column heads the rows. Without rows, the note says why."""

    title: str
    note: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def audit_tables(result: Mapping[str, Any]) -> list[Table]:
    """Every table of an audit, in reading order.

    Args:
        result: the content of ``audit.json``.
    """
    found = result["measures"]
    share = f"{result['declared']['confidence']:.0%}"
    return [
        _gates("Gates", result["gates"], share),
        _gates(
            "Control: the original, judged by the gates against under-forgetting", result["control"]["gates"], share
        ),
        _models(result["models"]),
        _gaps("Gap to the oracle", found["oracle_gap"], share),
        _gaps("Gap to the original", found["original_gap"], share),
        _distribution(found["distribution"]),
        _membership(found["membership"], share),
        _forgotten(found["have_you_forgotten"]),
        _relearning(found["relearning"]),
        _hallucination(found["hallucination"], share),
        _distance(found["distance"]),
        _subgroups(found["subgroups"], share),
        _cost(found["cost"]),
    ]


def audit_markdown(result: Mapping[str, Any]) -> str:
    """The audit as Markdown: verdict, statement and tables."""
    verdict = result["verdict"]
    because = f" ({', '.join(verdict['because'])})" if verdict["because"] else ""
    lines = [f"# Audit: {verdict['verdict']}", "", f"{verdict['meaning']}{because}.", "", result["statement"], ""]
    for table in audit_tables(result):
        lines += [f"## {table.title}", "", table.note, ""]
        if table.rows:
            rows = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)], *table.rows]
            lines += ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows] + [""]
    return "\n".join(lines).rstrip() + "\n"


def _missing(title: str, entry: Mapping) -> Table:
    return Table(title, f"Not measured: {entry[NOT_MEASURED]}.")


def number(value: Any, digits: int = 2, sign: bool = False) -> str:
    """A number as text; "not measured" for one that is missing."""
    if value is None or not is_measured(value):
        return NOT_MEASURED
    return f"{value:{'+' if sign else ''}.{digits}f}"


def spread(entry: Any, digits: int = 2, sign: bool = False) -> str:
    """A value with its interval as text."""
    if entry is None or not is_measured(entry):
        return NOT_MEASURED
    text = number(entry["value"], digits, sign)
    if entry["interval"] is None:
        return text
    return f"{text} [{', '.join(number(bound, digits, sign) for bound in entry['interval'])}]"


def _gates(title: str, gates: Sequence[Mapping], share: str) -> Table:
    rows = [
        [
            gate["name"],
            gate["guards"],
            gate["measure"],
            f"≥ {gate['at_least']}" if "at_least" in gate else f"≤ {gate['at_most']}",
            spread(gate if gate["value"] is not None else None, 3, True),
            MARKS[gate["verdict"]],
        ]
        for gate in gates
    ]
    note = f"Declared before the run. Pass: all of the {share} interval keeps the limit; fail: none of it does."
    return Table(title, note, ["gate", "guards against", "measure", "limit", "value [interval]", "verdict"], rows)


def _models(summary: Mapping) -> Table:
    cohorts = list(next(iter(summary.values())))
    columns = ["model", *(f"{cohort} {HEADINGS[metric]}" for cohort in cohorts for metric in METRICS)]
    rows = [
        [model, *(_mean_std(entry[cohort][metric], metric) for cohort in cohorts for metric in METRICS)]
        for model, entry in summary.items()
    ]
    return Table(
        "Models", "; ".join(f"{c} = {COHORTS.get(c, c)}" for c in cohorts) + "; mean ± std over volumes.", columns, rows
    )


def _mean_std(entry: Mapping, metric: str) -> str:
    return f"{entry['mean']:.{DECIMALS[metric]}f} ± {entry['std']:.{DECIMALS[metric]}f}"


def _gaps(title: str, entry: Mapping, share: str) -> Table:
    if not is_measured(entry):
        return _missing(title, entry)
    rows = []
    for cohort, metrics in entry.items():
        for metric, gap in metrics.items():
            band, test = gap["band"], gap["equivalence"]
            rows.append(
                [
                    f"{cohort} {HEADINGS[metric]}",
                    spread(gap["gap"], DECIMALS[metric] + 1, True),
                    "–"
                    if band is None
                    else f"{band['low']:.{DECIMALS[metric]}f} … {band['high']:.{DECIMALS[metric]}f}",
                    "–" if test is None else _equivalence(test),
                    f"{gap['gap']['volumes']} / {gap['gap']['patients']}",
                ]
            )
    columns = ["measure", f"mean difference [{share}]", "band of seeds", "equivalent (TOST)", "volumes / patients"]
    return Table(
        title,
        "Paired per volume; intervals by bootstrap over patients. A band needs three oracle seeds.",
        columns,
        rows,
    )


def _equivalence(test: Mapping) -> str:
    if test["p"] is None:
        return NOT_MEASURED
    return f"{'yes' if test['equivalent'] else 'no'} (±{test['margin']} dB, p = {test['p']:.3f})"


def _distribution(entry: Mapping) -> Table:
    title = "Distribution distance to the oracle"
    if not is_measured(entry):
        return _missing(title, entry)
    rows = [
        [
            f"{cohort} {HEADINGS[metric]}",
            number(d["ks"]),
            number(d["ks_p"], 3),
            number(d["wasserstein"], DECIMALS[metric] + 1),
        ]
        for cohort, metrics in entry.items()
        for metric, d in metrics.items()
    ]
    return Table(title, "Between the per-volume results of both models.", ["measure", "KS", "p", "Wasserstein"], rows)


def _membership(entry: Mapping, share: str) -> Table:
    title = "Membership inference"
    if not is_measured(entry):
        return _missing(title, entry)
    names = {"error": "error (PSNR)", "gain": "error less predictability (PSNR − zero-filled PSNR)"}
    rows = [
        [
            names[name],
            spread(attack["auc"]),
            number(attack["reference_auc"]),
            number(attack["original_auc"]),
            spread(attack["above"], 2, True),
            f"{number(attack['tpr'])} / {number(attack['reference_tpr'])}",
        ]
        for name, attack in entry.items()
    ]
    columns = [
        "score",
        f"AUC [{share}]",
        "oracle's AUC",
        "original's AUC",
        "difference to oracle",
        "TPR at 1 % FPR: model / oracle",
    ]
    sizes = entry["error"]
    note = (
        f"{sizes['members']} forget training volumes against {sizes['others']} unseen ones of the forget domain; "
        "0.5 is chance, and only the difference to the oracle, which cannot know, speaks of memory."
    )
    return Table(title, note, columns, rows)


def _forgotten(entry: Mapping) -> Table:
    title = "Have you forgotten? (KS ratio)"
    if not is_measured(entry):
        return _missing(title, entry)
    row = [number(entry["ratio"]), number(entry["model_ks"]), number(entry["calibration_ks"]), entry["calibration"]]
    note = "1 or more: no closer to a model trained on the forget set alone than one that never saw it."
    return Table(title, note, ["ratio", "KS of the model", "KS of the calibration model", "calibration model"], [row])


def _relearning(entry: Mapping) -> Table:
    title = "Relearning"
    if not is_measured(entry):
        return _missing(title, entry)
    rows = []
    for model, curve in entry["curves"].items():
        steps = entry["steps"] if model == "unlearned" else entry["oracle_steps"]
        reached = f"more than {entry['max_steps']}" if steps is None else str(steps)
        rows.append([model, reached, number(curve[0][1]), number(curve[-1][1])])
    ratio = entry["ratio"]
    said = f"{ratio:.2f}" if is_measured(ratio) else f"{NOT_MEASURED} ({ratio[NOT_MEASURED]})"
    note = f"Steps of training on the forget set until {entry['goal']:.2f} dB on KTA; ratio to the oracle: {said}."
    return Table(title, note, ["model", "steps", "KTA PSNR before", "KTA PSNR after"], rows)


def _hallucination(entry: Mapping, share: str) -> Table:
    title = "Hallucination (null-space error, retain test set)"
    if not is_measured(entry):
        return _missing(title, entry)
    rows = [[m, number(v["null_space_nmse"], 5), number(v["share_of_error"])] for m, v in entry["models"].items()]
    gaps = [f"{spread(entry[k], 5, True)} to the {k.partition('_')[0]}" for k in ("original_gap", "oracle_gap")]
    note = f"Part of the error in k-space columns that were not measured. Difference [{share}]: {'; '.join(gaps)}."
    return Table(title, note, ["model", "null-space NMSE", "share of the error"], rows)


def _distance(entry: Mapping) -> Table:
    rows = [
        [f"to {reference}", *([NOT_MEASURED] * 3 if not is_measured(d) else [
            number(d["weights"], 4), number(d["cka"].get("BTA"), 3), number(d["cka"].get("KTA"), 3)])]
        for reference, d in entry.items()
    ]  # fmt: skip
    columns = ["distance", "weights (relative l2)", "linear CKA, BTA", "linear CKA, KTA"]
    return Table("Weights and representation", "CKA of the encoder's last features: 1 is equal.", columns, rows)


def _subgroups(entries: Sequence[Mapping], share: str) -> Table:
    rows = [
        [f"{e['cohort']}: {e['field']} {e['group']}", str(e["gap"]["volumes"]), number(e["psnr"]),
         f"{spread(e['gap'], 2, True)} to {e['reference']}"]
        for e in entries
    ]  # fmt: skip
    note = "PSNR in dB; subgroups of few volumes say little." if rows else "No subgroup field has a value."
    return Table("Subgroups", note, ["subgroup", "volumes", "PSNR", f"difference [{share}]"], rows)


def _cost(entry: Mapping) -> Table:
    if not is_measured(entry):
        return _missing("Cost", entry)
    shares = entry["share_of_training"] if is_measured(entry["share_of_training"]) else {}
    names = {
        "steps": "steps",
        "forward_slices": "slices forward",
        "backward_slices": "slices backward",
        "seconds": "seconds",
    }
    rows = [
        [title, f"{entry[name]:g}", f"{shares[name]:.1%}" if name in shares else NOT_MEASURED]
        for name, title in names.items()
    ]
    rows += [[f"slices read: {role}", str(count), "–"] for role, count in entry["slices_read"].items()]
    return Table("Cost", "Of unlearning, from its run record.", ["count", "unlearning", "share of training"], rows)
