"""The audit's results as tables, from which Markdown and HTML are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scripts.audit.statistics import NOT_MEASURED, is_measured
from scripts.evaluation.results import COHORTS
from scripts.evaluation.table import ABSENT, DECIMALS, HEADINGS, Table, markdown_document, model_table, number, percent

MARKS = {"pass": "✓ pass", "fail": "✗ fail", "undecided": "? undecided", NOT_MEASURED: f"– {NOT_MEASURED}"}
CONTROL = "Control: the original, judged by the gates against under-forgetting"
SCORES = {"error": "error (PSNR)", "gain": "error less predictability (PSNR − zero-filled PSNR)"}
COUNTS = {
    "steps": "steps",
    "forward_slices": "slices forward",
    "backward_slices": "slices backward",
    "seconds": "seconds",
}


def audit_tables(result: Mapping[str, Any]) -> list[Table]:
    """Every table of an audit, in reading order.

    Args:
        result: The content of ``audit.json``.
    """
    found, share = result["measures"], f"{result['declared']['confidence']:.0%}"
    shown: dict[str, tuple[str, Callable[[str, Any, str], Table]]] = {
        "oracle_gap": ("Gap to the oracle", _gaps),
        "recipe": ("What the recipe alone does: the treated oracle less the oracle as it was trained", _recipe),
        "original_gap": ("Gap to the original", _gaps),
        "distribution": ("Distribution distance to the oracle", _distribution),
        "membership": ("Membership inference", _membership),
        "have_you_forgotten": ("Have you forgotten? (KS ratio)", _forgotten),
        "quantised": ("Gap of the audited model to the oracle, its weights rounded to int8", _gaps),
        "resurfacing": ("Resurfacing: training on retained data alone", _resurfacing),
        "relearning": ("Relearning: training on the forget set", _relearning),
        "acquisitions": ("Other acquisitions: gap to the oracle", _acquisitions),
        "output_distance": ("Distance of the images to the oracle's", _output_distance),
        "hallucination": ("Hallucination (null-space error, retain test set)", _hallucination),
        "distance": ("Weights and representation", _distance),
        "earlier": ("Earlier requests: where their scans stand now", _earlier),
        "erosion": ("Those who stay, from the original on", _erosion),
        "likelihood": ("Single patients, beside reference models", _likelihood),
        "subgroups": ("Subgroups", _subgroups),
        "cost": ("Cost", _cost),
    }
    return [
        _gates("Gates", result["gates"], share),
        _gates(CONTROL, result["control"]["gates"], share),
        model_table(result["models"]),
        *(
            show(title, found[name], share)
            if is_measured(found[name])
            else Table(title, f"Not measured: {found[name][NOT_MEASURED]}.")
            for name, (title, show) in shown.items()
            if name in found
        ),
    ]


def audit_markdown(result: Mapping[str, Any]) -> str:
    """The audit as Markdown: verdict, statement and tables."""
    verdict = result["verdict"]
    because = f" ({', '.join(verdict['because'])})" if verdict["because"] else ""
    lead = [f"{verdict['meaning']}{because}.", *filter(None, [result.get("advice")]), result["statement"]]
    return markdown_document(f"Audit: {verdict['verdict']}", lead, audit_tables(result))


def figure(value: Any, digits: int = 2, sign: bool = False) -> str:
    """A number as text; "not measured" for one that is missing."""
    return NOT_MEASURED if value is None or not is_measured(value) else number(value, digits, sign)


def spread(entry: Any, digits: int = 2, sign: bool = False) -> str:
    """A value with its interval as text."""
    if entry is None or not is_measured(entry) or entry["value"] is None:
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
            spread(gate, 3, True),
            MARKS[gate["verdict"]],
        ]
        for gate in gates
    ]
    note = f"Declared before the run. Pass: all of the {share} interval keeps the limit; fail: none of it does."
    return Table(title, note, ["gate", "guards against", "measure", "limit", "value [interval]", "verdict"], rows)


def _gaps(title: str, entry: Mapping, share: str) -> Table:
    rows = [
        [
            f"{cohort} {HEADINGS[metric]}",
            spread(gap["gap"], DECIMALS[metric] + 1, True),
            _band(gap["band"], DECIMALS[metric]),
            _equivalence(gap["equivalence"]),
            f"{gap['gap']['volumes']} / {gap['gap']['patients']}",
        ]
        for cohort, metrics in entry.items()
        for metric, gap in metrics.items()
    ]
    columns = ["measure", f"mean difference [{share}]", "band of seeds", "equivalent (TOST)", "volumes / patients"]
    note = "Paired per volume; intervals by bootstrap over patients. A band needs three oracle seeds."
    return Table(title, note, columns, rows)


def _recipe(title: str, entry: Mapping, share: str) -> Table:
    alone, with_memory = entry["alone"], entry["with_memory"]
    rows = [
        [f"{c} {HEADINGS[m]}", *(spread(part[c][m]["gap"], DECIMALS[m] + 1, True) for part in (alone, with_memory))]
        for c in alone
        for m in alone[c]
    ]
    own, all_of_it = (part.get("KTA", part["UA"])["psnr"]["gap"]["value"] for part in (alone, with_memory))
    note = (
        f"The same unlearning moves a network that never saw the forget set by {number(own, 2, True)} dB on the "
        f"forgotten kind: so much of the audited model's {number(all_of_it, 2, True)} dB is its recipe and no memory. "
        "KTA and UA are judged by that treated oracle, BTA by the oracle as it was trained; the last column is shown "
        "and not judged."
    )
    return Table(title, note, ["measure", f"treated oracle [{share}]", f"audited model [{share}]"], rows)


def _band(band: Mapping | None, digits: int) -> str:
    return ABSENT if band is None else f"{number(band['low'], digits)} … {number(band['high'], digits)}"


def _equivalence(test: Mapping | None) -> str:
    if test is None:
        return ABSENT
    if test["p"] is None:
        return NOT_MEASURED
    return f"{'yes' if test['equivalent'] else 'no'} (±{test['margin']} dB, p = {test['p']:.3f})"


def _distribution(title: str, entry: Mapping, share: str) -> Table:
    rows = [
        [
            f"{cohort} {HEADINGS[metric]}",
            number(distance["ks"]),
            number(distance["ks_p"], 3),
            number(distance["wasserstein"], DECIMALS[metric] + 1),
        ]
        for cohort, metrics in entry.items()
        for metric, distance in metrics.items()
    ]
    return Table(title, "Between the per-volume results of both models.", ["measure", "KS", "p", "Wasserstein"], rows)


def _membership(title: str, entry: Mapping, share: str) -> Table:
    rows = [
        [
            SCORES[name],
            spread(attack["auc"]),
            figure(attack["reference_auc"]),
            figure(attack["original_auc"]),
            spread(attack["above"], 2, True),
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
    return Table(title, note, [*columns, "TPR at 1 % FPR: model / oracle"], rows)


def _forgotten(title: str, entry: Mapping, share: str) -> Table:
    row = [number(entry["ratio"]), number(entry["model_ks"]), number(entry["calibration_ks"]), entry["calibration"]]
    note = "1 or more: no closer to a model trained on the forget set alone than one that never saw it."
    return Table(title, note, ["ratio", "KS of the model", "KS of the calibration model", "calibration model"], [row])


def _relearning(title: str, entry: Mapping, share: str) -> Table:
    shown = [step for step, _ in next(iter(entry["curves"].values()))]
    shown = [step for step in shown if step in (0, 2, 4, 8, 16, 32, shown[-1])]
    rows = []
    for model, curve in entry["curves"].items():
        steps = entry["steps"] if model == "unlearned" else entry["oracle_steps"]
        reached = f"more than {entry['max_steps']}" if steps is None else str(steps)
        rows.append([model, reached, *(number(value) for step, value in curve if step in shown)])
    ratio = entry["ratio"]
    said = f"{ratio:.2f}" if is_measured(ratio) else f"{NOT_MEASURED} ({ratio[NOT_MEASURED]})"
    area, head = (spread(entry["psnr"][name], 2, True) for name in ("area", "rise"))
    note = (
        f"Steps until {entry['goal']:.2f} dB on KTA; ratio to the oracle: {said}. Area between the curves over the "
        f"steps [{share}]: {area} dB, {spread(entry['ssim']['area'], 3, True)} in SSIM. Head start, each from its own "
        f"beginning, beside {entry['against']}: {head} dB. An undertrained model relearns slowly: read this beside BTA."
    )
    columns = ["model", "steps to the goal", *(f"KTA PSNR [dB] after {step}" for step in shown)]
    return Table(title, note, columns, rows)


def _resurfacing(title: str, entry: Mapping, share: str) -> Table:
    rows = [
        [
            f"{cohort} {HEADINGS[metric]}",
            number(found["before"], DECIMALS[metric]),
            number(found["after"], DECIMALS[metric]),
            number(found["oracle_after"], DECIMALS[metric]),
            spread(found["rise"], DECIMALS[metric], True),
            spread(found["gap"], DECIMALS[metric], True),
        ]
        for cohort in (*COHORTS, "earlier")
        if cohort in entry
        for metric, found in entry[cohort].items()
    ]
    part = "" if entry["share_of_training"] is None else f", {percent(entry['share_of_training'])} of the training's"
    weaker = "" if entry["against"].startswith("the ") else " Without an oracle this is weaker evidence."
    note = (
        f"{entry['steps']} steps{part}. Rise: of the model, beside {entry['against']}; gap: to that oracle "
        f"afterwards; each at the step where it is largest.{weaker} {entry.get('too_few', '')}"
    ).strip()
    columns = ["measure", "before", "after", "oracle after", f"rise [{share}]", f"gap [{share}]"]
    return Table(title, note, columns, rows)


def _acquisitions(title: str, entry: Mapping, share: str) -> Table:
    names = [name for name in entry if name != "highest"]
    rows = [
        [name, f"{cohort} {HEADINGS[metric]}", spread(found["gap"], DECIMALS[metric], True)]
        for name in names
        for cohort, metrics in entry[name].items()
        for metric, found in metrics.items()
    ]
    note = "The same scans under undersampling patterns that the method did not see."
    return Table(title, note, ["acquisition", "measure", f"mean difference [{share}]"], rows)


def _output_distance(title: str, entry: Mapping, share: str) -> Table:
    rows = [
        [cohort, number(found["model"], 4), number(found["oracles"], 4), spread(found["ratio"])]
        for cohort, found in entry.items()
    ]
    note = "Relative l2 distance, mean over slices; the ratio needs a second oracle, and 1 is honest retraining."
    return Table(title, note, ["cohort", "model to oracle", "oracle to oracle", f"ratio [{share}]"], rows)


def _hallucination(title: str, entry: Mapping, share: str) -> Table:
    rows = [[m, number(v["null_space_nmse"], 5), number(v["share_of_error"])] for m, v in entry["models"].items()]
    gaps = [f"{spread(entry[k], 5, True)} to the {k.partition('_')[0]}" for k in ("original_gap", "oracle_gap")]
    note = (
        f"Part of the error in k-space columns that were not measured. Difference [{share}]: {'; '.join(gaps)}. "
        f"Enhancement, the model's over the original's: {spread(entry['enhancement'])}; below 1 is better."
    )
    return Table(title, note, ["model", "null-space NMSE", "share of the error"], rows)


def _distance(title: str, entry: Mapping, share: str) -> Table:
    rows = []
    for reference, found in entry.items():
        cells = [NOT_MEASURED] * 3
        if is_measured(found):
            cells = [number(found["weights"], 4), *(figure(found["cka"].get(c), 3) for c in ("BTA", "KTA"))]
        rows.append([f"to {reference}", *cells])
    columns = ["distance", "weights (relative l2)", "linear CKA, BTA", "linear CKA, KTA"]
    return Table(title, "CKA of the encoder's last features: 1 is equal.", columns, rows)


def _earlier(title: str, entry: Mapping, share: str) -> Table:
    rows = [
        [request, str(found["scans"]), number(found["psnr"]), *(spread(found[k], 2, True) for k in ("rise", "above"))]
        for request, found in entry["requests"].items()
    ]
    columns = ["request", "scans", "PSNR [dB]", f"rise by this request [{share}]", f"above the oracle [{share}]"]
    return Table(title, "Scans that earlier requests erased, as far as the datalist names them.", columns, rows)


def _erosion(title: str, entry: Mapping, share: str) -> Table:
    rows = [
        [f"line {step['line']}", step["why"] if step["change"] is None else number(step["change"], 2, True)]
        for step in entry["steps"]
    ]
    rows.append(["together", spread(entry["total"], 2, True) if is_measured(entry["total"]) else NOT_MEASURED])
    note = "Mean PSNR of each run's own retain test scans, after less before, by the records that the ledger names."
    return Table(title, note, ["request, by the ledger's line", "change [dB]"], rows)


def _likelihood(title: str, entry: Mapping, share: str) -> Table:
    rows = [
        [
            row["patient"],
            str(len(row["scans"])),
            number(row["score"], 2, True),
            f"{row['error_rate']:.3f} [{', '.join(f'{bound:.3f}' for bound in row['interval'])}]",
            f"{number(row['original_score'], 2, True)} / {row['original_error_rate']:.3f}",
            ABSENT if row["rmia"] is None else number(row["rmia"]),
            f"{row['verdict']}: {row['because']}",
        ]
        for row in entry["patients"]
    ]
    power = NOT_MEASURED if entry["power"] is None else percent(entry["power"])
    note = (
        f"{entry['references']['counting']} reference models; {entry['unseen']} unseen patients; power: {power} of "
        f"{entry['canaries']} canaries found at an error rate below {entry['rate']:g}. Score: standard deviations "
        "above models that never saw the patient. Retained patients are expected to be known, to the original as well; "
        f"rise beside the unseen [{share}]: {spread(entry['exposed'], 2, True)}."
    )
    columns = ["patient", "scans", "score", "error rate [90%]", "original: score / error rate", "RMIA", "verdict"]
    return Table(title, note, columns, rows)


def _subgroups(title: str, entries: Sequence[Mapping], share: str) -> Table:
    rows = [
        [
            f"{entry['cohort']}: {entry['field']} {entry['group']}",
            str(entry["gap"]["volumes"]),
            number(entry["psnr"]),
            f"{spread(entry['gap'], 2, True)} to {entry['reference']}",
        ]
        for entry in entries
    ]
    note = "PSNR in dB; subgroups of few volumes say little." if rows else "No subgroup field has a value."
    return Table(title, note, ["subgroup", "volumes", "PSNR", f"difference [{share}]"], rows)


def _cost(title: str, entry: Mapping, share: str) -> Table:
    shares = entry["share_of_training"] if is_measured(entry["share_of_training"]) else {}
    rows = [
        [heading, f"{entry[name]:g}", percent(shares[name]) if name in shares else NOT_MEASURED]
        for name, heading in COUNTS.items()
    ]
    rows += [[f"slices read: {role}", str(count), ABSENT] for role, count in entry["slices_read"].items()]
    return Table(title, "Of unlearning, from its run record.", ["count", "unlearning", "share of training"], rows)
