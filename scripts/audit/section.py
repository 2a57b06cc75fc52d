"""The audit as HTML: a section for a report, and a page of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.audit.tables import audit_tables
from scripts.evaluation.html import tables_html, template

COLOURS = {"forgotten": "good", "undecided": "open"}
PICTURES = {
    "hallucination.png": "Null-space error of each model on two retain test scans: what appears or is lost in k-space "
    "columns that were not measured. Red is above the target, blue below.",
    "panels.png": "Reconstructions of one retain and one forget test slice by each model, and their errors.",
}
TEMPLATES = Path(__file__).parent / "templates"

__all__ = ["audit_page", "audit_section", "tables_html"]


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
