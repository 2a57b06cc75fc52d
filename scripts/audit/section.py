"""The audit as HTML: a section for a report, and a page of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from scripts.audit.tables import Table, audit_tables

COLOURS = {"forgotten": "good", "undecided": "open"}
PICTURES = {
    "hallucination.png": "Null-space error of each model on two retain test scans: what appears or is lost in k-space "
    "columns that were not measured. Red is above the target, blue below.",
    "panels.png": "Reconstructions of one retain and one forget test slice by each model, and their errors.",
}


def audit_section(result: Mapping[str, Any], folder: str = "", level: int = 2) -> str:
    """An accessible HTML section, with its own small style and without scripts, to be put into a page.

    Args:
        result: the content of ``audit.json``.
        folder: where the pictures lie, seen from the page, e.g. ``"audit/"``.
        level: of its heading, 1 to 5; subheadings are one deeper.
    """
    pictures = [(folder + name, PICTURES.get(name, name)) for name in result.get("pictures", [])]
    return _template("section.html").render(
        result=result, tables=audit_tables(result), pictures=pictures, level=level,
        tone=COLOURS.get(result["verdict"]["verdict"], "bad"),
    )  # fmt: skip


def audit_page(result: Mapping[str, Any], folder: str = "") -> str:
    """A complete HTML page that holds the section alone."""
    return _template("page.html").render(section=audit_section(result, folder, level=1))


def tables_html(tables: list[Table], level: int = 3) -> str:
    """Tables alone, each with its heading and note."""
    return _template("tables.html").render(tables=tables, level=level)


def _template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    return environment.get_template(name)
