"""One page about one request, for those who have to decide and sign: ``report.html`` in the folder of the run."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import matplotlib

from scripts.evaluation.bootstrap import mean_with_interval
from scripts.evaluation.drawing import DETERMINISTIC, FAINT, INK, data_uri, new_figure
from scripts.evaluation.results import ORIGINAL, ZERO_FILLED, Results, cohort_words, read_results
from scripts.evaluation.table import MODELS, Table, number, template
from scripts.requests.in_words import describe_outcome, passes_share
from scripts.run import command_of
from scripts.run.files import file_sha256, write_text

NAME = "report.html"
COLOURS = {"pass": "#00704a", "fail": "#b3261e", "undecided": "#8a6100"}
REACH = 2.0  # limits away from a limit at which the chart ends
CONFIDENCE = 0.9


@idist.one_rank_only()
def write_report(run_dir: str | Path | None) -> None:
    """Write ``report.html`` from the record, the figures and the pictures of a run, and the audit if there is one.

    The page is one file with its pictures inside; it can be mailed and printed. Written again, for example after an
    audit, it is replaced. It names no patient and no file of a scan.

    Args:
        run_dir: The folder that ``unlearn`` wrote; None: there is none, and nothing is written.

    Raises:
        FileNotFoundError: There is no record in it.
    """
    if run_dir is None:
        return
    folder = Path(run_dir)
    record = json.loads((folder / "unlearned.json").read_text(encoding="utf-8"))
    figures, panels = folder / "metrics.csv", folder / "panels.png"
    results = Results(read_results(figures)) if record.get("results") and figures.is_file() else None
    stated = folder / "audit" / "audit.json"
    audit = json.loads(stated.read_text(encoding="utf-8")) if stated.is_file() else None
    page = template("report.html").render(
        record=record,
        outcome=describe_outcome(record),
        exact=record["forgetting"] == "exact",
        selectors=[_selector(part) for part in record["forget_request"]["forget"]],
        share=f"{100 * passes_share(record):.3g} %",
        opened=record["opened"],
        reasons=_reasons(record["not_exact_because"]),
        started=f"{record['started'][:10]} {record['started'][11:16]} ({record['started'][19:] or 'local time'})",
        quality=None if results is None else quality_table(results),
        kept=None if results is None else kept_difference(results),
        picture=data_uri(panels.read_bytes(), "png") if panels.is_file() else None,
        audit=None if audit is None else audit_part(audit),
        hashes=_hashes(record, folder),
        repeat=command_of("replay" if record["forgetting"] == "exact" else "audit", run=run_dir),
    )
    write_text(folder / NAME, page)


def quality_table(results: Results) -> Table:
    """Mean PSNR and SSIM of each model on what stays and on what had to go."""
    words = cohort_words({cohort: results.anatomies(cohort) for cohort in results.cohorts})
    rows = [
        [
            MODELS.get(model, model),
            *(
                number(float(results.values(model, cohort, metric).mean()), digits)
                for cohort in results.cohorts
                for metric, digits in (("psnr", 1), ("ssim", 3))
            ),
        ]
        for model in results.models
    ]
    columns = [
        f"{words.get(cohort, cohort)} (n = {len(results.volumes(cohort))}), {unit}"
        for cohort in results.cohorts
        for unit in ("PSNR [dB]", "SSIM")
    ]
    return Table("", "Mean over scans. Higher is better.", ["network", *columns], rows)


def kept_difference(results: Results) -> str:
    """Quality on retained test scans beside the original and the zero-filled image, with intervals over patients.

    Returns:
        Sentences; "" where no retained test scan was measured.
    """
    sentences = []
    for other, words in ((ORIGINAL, "the original network"), (ZERO_FILLED, "the image without a network")):
        if {other, "unlearned"} <= set(results.models) and "BTA" in results.cohorts:
            pairs = [results.values(model, "BTA", "psnr") for model in ("unlearned", other)]
            found = mean_with_interval(pairs[0] - pairs[1], results.patients("BTA"), CONFIDENCE)
            between = "no interval: fewer than two patients"
            if found["interval"] is not None:
                low, high = found["interval"]
                between = f"{100 * CONFIDENCE:.0f} % interval {number(low, sign=True)} to {number(high, sign=True)} dB"
            sentences.append(
                f"On retained test scans the result differs from {words} by {number(found['value'], sign=True)} dB "
                f"({between}; {found['volumes']} scans of {found['patients']} patients)."
            )
    return " ".join(sentences)


def audit_part(audit: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of an audit: the verdict, its meaning and its gates.

    Args:
        audit: Content of ``audit.json``: ``verdict`` with ``verdict`` and ``meaning``, and ``gates``, see
            :func:`gate_chart`.
    """
    gates = [gate for gate in audit["gates"] if gate.get("value") is not None]
    return {
        "verdict": audit["verdict"]["verdict"],
        "meaning": audit["verdict"]["meaning"],
        "chart": gate_chart(gates) if gates else None,
        "unmeasured": [gate["name"] for gate in audit["gates"] if gate.get("value") is None],
    }


def gate_chart(gates: Sequence[Mapping[str, Any]]) -> str:
    """Value, interval and limit of each gate, drawn as one chart; a data URI of an SVG.

    Gates have different units, so each row is scaled by its own limit: the line in the middle is the limit, what lies
    to its right keeps it. The numbers stand beside the row. The chart ends two limits away from the middle.

    Args:
        gates: Each with ``name``, ``value``, ``interval`` (low, high) or None, ``at_least`` or ``at_most``, and
            ``verdict``.
    """
    height = 0.27 * len(gates) + 0.9
    figure = new_figure(7.4, height)
    axes = figure.add_subplot()
    for row, gate in enumerate(reversed(gates)):
        value, sign = gate["value"], 1 if "at_least" in gate else -1
        limit = float(gate["at_least" if sign > 0 else "at_most"])
        places = [sign * (v - limit) / (abs(limit) or 1.0) for v in (*(gate["interval"] or (value, value)), value)]
        *ends, middle = (max(-REACH, min(REACH, place)) for place in places)
        colour = COLOURS.get(gate["verdict"], INK)
        axes.plot(ends, [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot(middle, row, "o", color=colour, markersize=5)
        said = f"{number(value)}  ({'≥' if sign > 0 else '≤'} {number(limit)})  {gate['verdict']}"
        axes.text(1.02, row, said, color=colour, fontsize=7.5, va="center", transform=axes.get_yaxis_transform())
    axes.axvline(0.0, color=INK, linewidth=1.2)
    axes.set_yticks(range(len(gates)), [gate["name"] for gate in reversed(gates)], fontsize=7.5, parse_math=False)
    axes.set_xticks([-REACH / 2, 0.0, REACH / 2], ["breaks the limit", "limit", "keeps the limit"], fontsize=7.5)
    axes.set_xlim(-REACH * 1.05, REACH * 1.05)
    axes.set_ylim(-0.7, len(gates) - 0.3)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "unlearning", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata=DETERMINISTIC[".svg"])
    return data_uri(stream.getvalue(), "svg+xml")


def _selector(selector: Mapping[str, Any]) -> str:
    """A selector in words; values that may name a person stay out of the page.

    >>> _selector({"anatomy": "knee", "acquisition": ["PD", "T1"]}), _selector({"patient_id": ["P1", "P2"]})
    ('anatomy knee and acquisition PD or T1', 'patient_id: 2 values')
    """
    parts = []
    for key, value in selector.items():
        values = [str(item) for item in value] if isinstance(value, list) else [str(value)]
        shown = key in ("anatomy", "acquisition", "systemModel", "systemVendor")
        parts.append(
            f"{key} {' or '.join(values)}" if shown else f"{key}: {len(values)} value{'s' * (len(values) > 1)}"
        )
    return " and ".join(parts)


def _reasons(stated: Sequence[str]) -> list[str]:
    """Why a run is not exact; the forgotten scans that it opened are counted, not named.

    >>> _reasons(["a.h5, a forgotten scan, was opened", "b.h5, a forgotten scan, was opened", "c.pt was read"])
    ['c.pt was read', '2 forgotten scans were opened']
    """
    opened = [reason for reason in stated if reason.endswith("a forgotten scan, was opened")]
    rest = [reason for reason in stated if reason not in opened]
    return rest + ([f"{len(opened)} forgotten scan{'s were' if len(opened) > 1 else ' was'} opened"] if opened else [])


def _hashes(record: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    before = record.get("weights_in") or {}
    prior = record.get("prior") or {}
    found = {
        "weights of the result": record["weights_out"]["sha256"],
        "weights of the original": before.get("sha256"),
        "prior": prior.get("sha256"),
        "datalist": (record.get("datalist") or {}).get("sha256"),
        "record of the run (unlearned.json)": file_sha256(folder / "unlearned.json"),
        "program": record["environment"]["code_sha256"],
    }
    return [(name, digest) for name, digest in found.items() if digest]
