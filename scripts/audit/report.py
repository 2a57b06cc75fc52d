"""The audit's results for people: tables from which Markdown and HTML are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.audit.measure import NOT_MEASURED, Measure, is_measured, with_interval
from scripts.evaluation.table import Table, markdown_document, model_table, tables_html, template

MARKS = {"pass": "✓ pass", "fail": "✗ fail", "undecided": "? undecided", NOT_MEASURED: f"– {NOT_MEASURED}"}
CONTROL = "Control: the original, judged by the gates against under-forgetting"
COLOURS = {"forgotten": "good", "forgotten exactly": "good", "undecided": "open"}
PICTURES = {
    "hallucination.png": "Null-space error of each model on two retain test scans: what appears or is lost in k-space "
    "columns that were not measured. Red is above the target, blue below.",
    "panels.png": "Reconstructions of one retain and one forget test slice by each model, and their errors.",
}
TEMPLATES = Path(__file__).parent / "templates"

__all__ = ["audit_markdown", "audit_page", "audit_section", "audit_tables", "tables_html"]


def audit_tables(result: Mapping[str, Any]) -> list[Table]:
    """Every table of an audit, in reading order.

    Args:
        result: The content of ``audit.json``.
    """
    found, share = result["measures"], f"{result['declared']['confidence']:.0%}"
    judged = [_gates("Gates", result["gates"], share)]
    if result["control"]["gates"]:
        judged.append(_gates(CONTROL, result["control"]["gates"], share))
    return [*judged, model_table(result["models"]), *(_shown(name, entry, share) for name, entry in found.items())]


def _shown(name: str, entry: Any, share: str) -> Table:
    measure = Measure.known.get(name)
    if measure is None:
        return Table(name, "Its numbers are in audit.json.")
    return (
        measure.table(entry, share)
        if is_measured(entry)
        else Table(measure.title, f"Not measured: {entry[NOT_MEASURED]}.")
    )


def audit_markdown(result: Mapping[str, Any]) -> str:
    """The audit as Markdown: verdict, statement and tables."""
    verdict = result["verdict"]
    because = f" ({', '.join(verdict['because'])})" if verdict["because"] else ""
    lead = [
        f"{verdict['meaning']}{because}.",
        *filter(None, [result.get("forgetting", {}).get("text"), result.get("advice")]),
        result["statement"],
    ]
    return markdown_document(f"Audit: {verdict['verdict']}", lead, audit_tables(result))


def _gates(title: str, gates: Sequence[Mapping], share: str) -> Table:
    rows = [
        [
            gate["name"],
            gate["guards"],
            gate["measure"],
            f"≥ {gate['at_least']}" if "at_least" in gate else f"≤ {gate['at_most']}",
            with_interval(gate, 3, True),
            MARKS[gate["verdict"]],
        ]
        for gate in gates
    ]
    note = f"Declared before the run. Pass: all of the {share} interval keeps the limit; fail: none of it does."
    return Table(title, note, ["gate", "guards against", "measure", "limit", "value [interval]", "verdict"], rows)


def audit_section(result: Mapping[str, Any], folder: str = "", level: int = 2) -> str:
    """An accessible HTML section, with its own small style and without scripts, to be put into a page.

    Args:
        result: The content of ``audit.json``.
        folder: Where the pictures lie, seen from the page, e.g. ``"audit/"``.
        level: The level of its heading, 1 to 5; subheadings are one deeper.
    """
    pictures = [(folder + name, PICTURES.get(name, name)) for name in result.get("pictures", [])]
    return template("section.html", TEMPLATES).render(
        result=result,
        tables=audit_tables(result),
        pictures=pictures,
        level=level,
        tone=COLOURS.get(result["verdict"]["verdict"], "bad"),
    )


def audit_page(result: Mapping[str, Any], folder: str = "") -> str:
    """A complete HTML page that holds the section alone."""
    return template("page.html", TEMPLATES).render(section=audit_section(result, folder, level=1))
