"""One kind of table and its forms as text, Markdown and HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from scripts.evaluation.metrics import METRICS
from scripts.evaluation.results import COHORTS, Summary, cohort_order, model_order

MODELS = {
    "G": "original",
    "before": "before this request",
    "oracle": "network that never saw the scans",
}  # how tables call them
HEADINGS = {"psnr": "PSNR [dB]", "ssim": "SSIM", "nmse": "NMSE"}
DECIMALS = {"psnr": 2, "ssim": 3, "nmse": 4}
ABSENT = "–"
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Table:
    """A titled table of text; the first column heads the rows."""

    title: str  # "" for none
    note: str  # what the table says; without rows, why there are none
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()  # cells that are ready to be shown
    groups: Sequence[tuple[str, int]] = ()  # (heading, number of columns) above the columns, from left to right

    def flat_columns(self) -> list[str]:
        """The headings with that of their group in front.

        >>> Table("", "", ["model", "PSNR"], groups=[("", 1), ("BTA", 1)]).flat_columns()
        ['model', 'BTA PSNR']
        """
        above = [heading for heading, span in self.groups for _ in range(span)] or [""] * len(self.columns)
        return [f"{group} {column}".strip() for group, column in zip(above, self.columns, strict=True)]


def markdown(table: Table) -> str:
    """The rows as a Markdown table, without title and note; text that would become HTML or a link stays text.

    >>> print(markdown(Table("", "", ["model", "BTA"], [["unlearned", "30.1"]])))
    | model | BTA |
    | --- | ---: |
    | unlearned | 30.1 |
    """
    rule = ["---", *["---:"] * (len(table.columns) - 1)]
    shown = [[markdown_text(cell) for cell in row] for row in (table.flat_columns(), *table.rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (shown[0], rule, *shown[1:]))


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, no link, no picture, no further column or line.

    >>> markdown_text("<img src=x>"), markdown_text("a|b"), markdown_text("[here](http://x)"), markdown_text("[-1, 1]")
    ('&lt;img src=x&gt;', 'a\\\\|b', '[here]\\\\(http://x)', '[-1, 1]')
    """
    text = html.escape(" ".join(text.split()), quote=False)
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("](", "]\\(")


def plain(table: Table) -> str:
    """The rows as aligned text, without title and note.

    >>> print(plain(Table("", "", ["model", "BTA"], [["unlearned", "30.1"]])))
    model       BTA
    ---------------
    unlearned  30.1
    """
    rows = [table.columns, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    last = -1
    for heading, span in table.groups:  # a heading may be wider than its columns
        last += span
        widths[last] += max(0, len(heading) + 2 - sum(widths[last - span + 1 : last + 1]) - 2 * (span - 1))
    lines = [
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    above = [_spanning(table.groups, widths)] if table.groups else []
    return "\n".join([*above, lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown_document(title: str, lead: Sequence[str], tables: Sequence[Table]) -> str:
    """A Markdown document: title, paragraphs, then every table under its heading with its note."""
    parts = [f"# {markdown_text(title)}", *map(markdown_text, lead)]
    for table in tables:
        parts += [f"## {markdown_text(table.title)}", markdown_text(table.note)]
        parts += [markdown(table)] if table.rows else []
    return "\n\n".join(part for part in parts if part) + "\n"


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


def model_table(summary: Summary, title: str = "Models", words: Mapping[str, str] = COHORTS) -> Table:
    """One row a model, mean ± standard deviation of PSNR, SSIM and NMSE in each cohort; of a single volume no ±.

    Args:
        summary: See :func:`scripts.evaluation.results.summarise`; a cohort without results for a model shows "–".
        title: The table's heading.
        words: Cohort -> how the table calls it, see :func:`scripts.evaluation.results.cohort_words`.

    Raises:
        ValueError: the summary is empty.
    """
    if not summary:
        raise ValueError("there are no results to put into a table")
    counts = {cohort: entry["n"] for cohorts in summary.values() for cohort, entry in cohorts.items()}
    cohorts = sorted(counts, key=cohort_order)
    rows = [
        [MODELS.get(model, model), *(_mean_std(summary[model].get(cohort), m) for cohort in cohorts for m in METRICS)]
        for model in sorted(summary, key=model_order)
    ]
    letters = ", ".join(f"{words[cohort]} = {cohort}" for cohort in cohorts if cohort in COHORTS)
    legend = "mean ± sample standard deviation over n volumes"
    return Table(
        title,
        f"{legend}; in Xue et al. 2024: {letters}" if letters else legend,
        ["model", *[HEADINGS[name] for name in METRICS] * len(cohorts)],
        rows,
        [("", 1), *((f"{words.get(c, c)} (n = {counts[c]})", len(METRICS)) for c in cohorts)],
    )


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A number with its decimals, a true minus sign, and "–" for one that is missing (None or NaN).

    >>> number(30.126), number(None), number(0.5, sign=True), number(-0.0012, 3)
    ('30.13', '–', '+0.50', '−0.001')
    """
    return (
        ABSENT if value is None or math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")
    )


def percent(share: float | None) -> str:
    """A share as per cent, "–" for one that is missing (None or NaN).

    >>> percent(0.0312), percent(None)
    ('3.1 %', '–')
    """
    return ABSENT if share is None or math.isnan(share) else f"{100 * share:.1f} %"


def _mean_std(entry: Mapping[str, Any] | None, name: str) -> str:
    if entry is None:
        return ABSENT
    spread = f" ± {entry[name]['std']:.{DECIMALS[name]}f}" if entry["n"] > 1 else ""
    return f"{entry[name]['mean']:.{DECIMALS[name]}f}{spread}"


def _spanning(groups: Sequence[tuple[str, int]], widths: Sequence[int]) -> str:
    """The line of group headings, each centred in a rule over its columns."""
    parts, first = [], 0
    for heading, span in groups:
        width = sum(widths[first : first + span]) + 2 * (span - 1)
        parts.append(f" {heading} ".center(width, "-") if heading else " " * width)
        first += span
    return "  ".join(parts).rstrip()
