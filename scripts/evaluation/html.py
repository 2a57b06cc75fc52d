"""Tables and pages as HTML, through Jinja templates that escape what they are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2

from scripts.evaluation.table import Table

TEMPLATES = Path(__file__).parent / "templates"


def template(name: str, *folders: Path) -> jinja2.Template:
    """A template of one of the folders; it may include ``tables.html``, which lies beside this module.

    Args:
        name: The file's name.
        folders: Where to look before the folder of ``tables.html``.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def tables_html(tables: Sequence[Table], level: int = 3) -> str:
    """Accessible HTML tables, each under a heading of that level and with its note as caption."""
    return template("tables.html").render(tables=tables, level=level)
