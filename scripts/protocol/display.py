"""The study's rows as tables to read, and as files: CSV and JSON with every digit, Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from scripts.evaluation.metrics import METRICS
from scripts.evaluation.table import ABSENT, DECIMALS, HEADINGS, Table, markdown, number, percent
from scripts.protocol.effort import Cost
from scripts.protocol.frontier import DELIVERED, FrontierRow
from scripts.protocol.quality import Band, Gap, Knowledge, Quality
from scripts.protocol.verdict import Verdict
from scripts.run.files import write_text

VERDICT = (
    "Closest first. Largest difference: of mean PSNR to the oracle, over BTA, KTA and UA. Knowledge gap closed: "
    "100 % is the oracle, 0 % the original; above 100 % the model is worse than one that never saw such data."
)
QUALITY = (
    "BTA = retain test set, KTA = forget test set, UA = forget training data. Values are averaged over seeds, then "
    "mean ± sample standard deviation over volumes; in brackets the standard deviation of the seeds' means."
)
GAPS = (
    "Paired over volumes, model minus oracle, with a 95 % interval by bootstrap over patients. • = the mean lies "
    "between the oracle's own lowest and highest seed."
)
KNOWLEDGE = "What the forget cohort taught: G knows both cohorts, the oracle the retain cohort alone."
COST = (
    "Slices forward and backward through the network during training or unlearning, and its wall time, which other "
    "work on the machine lengthens; as shares of training the oracle."
)
FRONTIER = (
    "PSNR [dB] / SSIM less the oracle's, mean over the seeds (lowest to highest). Passes: share of training's backward "
    "passes that unlearning may spend. Later: after training went on with the retain set alone, as the oracle's did."
)
BAND = "How far two oracles differ that were trained alike but for the seed."
FITS = "a·u² + b·u + c with u = log10(retain fraction), by least squares; optimum within the measured range."


@dataclass(frozen=True)
class Shown:
    """Rows with all digits, and the table that shows them."""

    rows: Sequence[Any]
    table: Table

    @property
    def records(self) -> list[str]:
        """The record files that the rows come from."""
        named = (str(getattr(row, "records", "")) for row in self.rows)
        return list(dict.fromkeys(file for records in named for file in records.split("; ") if file))


def write_shown(shown: Shown, stem: Path) -> None:
    """Write ``stem``.csv and ``stem``.json (all rows, all digits) and ``stem``.md (the table)."""
    stream = io.StringIO(newline="")
    rows = [asdict(row) for row in shown.rows]
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(stem.with_suffix(".csv"), stream.getvalue())
    write_text(stem.with_suffix(".json"), json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    write_text(stem.with_suffix(".md"), (markdown(shown.table) if rows else "no results") + "\n")


def show_quality(rows: Sequence[Quality]) -> Shown:
    """One line a model, mean ± std over volumes, the seeds' spread in brackets."""

    def cell(row: Quality) -> str:
        digits = DECIMALS[row.metric]
        seeds = "" if row.std_seeds is None else f" ({number(row.std_seeds, digits)})"
        return f"{number(row.mean, digits)} ± {number(row.std, digits)}{seeds}"

    return Shown(rows, _pivot("Image quality", QUALITY, rows, cell))


def show_gaps(rows: Sequence[Gap]) -> Shown:
    """One line a model: difference to the oracle [95 % interval], • where it is within the oracle's band."""

    def cell(row: Gap) -> str:
        digits = DECIMALS[row.metric]
        text = number(row.difference, digits, True)
        if row.low is not None:
            text += f" [{number(row.low, digits, True)}, {number(row.high, digits, True)}]"
        return text + (" •" if row.within_band else "")

    return Shown(rows, _pivot("Difference to the oracle", GAPS, rows, cell))


def show_costs(rows: Sequence[Cost]) -> Shown:
    """Passes and time, absolute and as a share of training the oracle."""
    cells = [
        [
            row.model,
            f"{row.epochs:g}",
            f"{row.forward_slices:,.0f}",
            f"{row.backward_slices:,.0f}",
            percent(row.passes_share),
            f"{row.seconds:.1f}",
            percent(row.seconds_share),
        ]
        for row in rows
    ]
    columns = ["model", "epochs", "slices forward", "slices backward", "passes / training", "time [s]"]
    return Shown(rows, Table("Run-time efficiency", COST, [*columns, "time / training"], cells))


def show_knowledge(rows: Sequence[Knowledge]) -> Shown:
    """Values and gaps of the trained models."""
    names = {"BTA": "retain test (BTA)", "KTA": "forget test (KTA)"}
    cells = []
    for row in rows:
        values = (row.G, row.oracle, row.forget_only)
        gaps = (row.G_minus_oracle, row.G_minus_forget_only)
        digits = DECIMALS[row.metric]
        shown = [*(number(value, digits) for value in values), *(number(gap, digits, True) for gap in gaps)]
        cells.append([names[row.cohort], HEADINGS[row.metric], *shown])
    columns = ["test set", "metric", "G", "oracle", "forget only", "G − oracle", "G − forget only"]
    return Shown(rows, Table("Knowledge gap", KNOWLEDGE, columns, cells))


def show_frontier(rows: Sequence[FrontierRow]) -> Shown:
    """One line a method and budget, one column a cohort, as delivered and later."""
    lines: dict[tuple[str, float], dict[tuple[str, str], list[str]]] = {}
    for row in rows:
        digits = DECIMALS[row.metric]
        text = number(row.gap, digits, True)
        if row.seeds > 1:
            text += f" ({number(row.lowest, digits, True)} to {number(row.highest, digits, True)})"
        lines.setdefault((row.model, row.budget), {}).setdefault((row.state, row.cohort), []).append(text)
    places = list(dict.fromkeys(place for line in lines.values() for place in line))
    cells = [
        [model, percent(budget), *(" / ".join(line.get(place, [ABSENT])) for place in places)]
        for (model, budget), line in lines.items()
    ]
    columns = ["model", "passes", *(c if state == DELIVERED else f"{state} {c}" for state, c in places)]
    return Shown(rows, Table("What forgetting costs and what it leaves", FRONTIER, columns, cells))


def show_band(rows: Sequence[Band]) -> Shown:
    """The oracle's seeds, lowest to highest."""
    cells = []
    for row in rows:
        values = (number(value, DECIMALS[row.metric]) for value in (row.mean, row.low, row.high))
        cells.append([row.cohort, HEADINGS[row.metric], str(row.seeds), *values])
    columns = ["cohort", "metric", "seeds", "mean", "lowest", "highest"]
    return Shown(rows, Table("The oracle's seeds", BAND, columns, cells))


def show_verdict(rows: Sequence[Verdict]) -> Shown:
    """One line a method, the one closest to the oracle first."""
    cells = [
        [
            row.model,
            f"{number(row.largest_gap, sign=True)} in {row.cohort}",
            number(row.retain_gap, sign=True),
            percent(row.gap_closed),
            f"{row.cohorts_within_band} of 3",
            percent(row.passes_share),
        ]
        for row in rows
    ]
    columns = ["model", "largest difference [dB]", "retain gap [dB]", "knowledge gap closed"]
    columns += ["cohorts within the oracle's band", "passes / training"]
    return Shown(rows, Table("Closeness to the oracle", VERDICT, columns, cells))


def show(title: str, rows: Sequence[Any], note: str = "") -> Shown:
    """Any rows, numbers to four significant digits, without the records."""
    names = [field.name for field in fields(rows[0]) if field.name != "records"] if rows else []
    cells = [[_text(getattr(row, name)) for name in names] for row in rows]
    return Shown(rows, Table(title, note, [name.replace("_", " ") for name in names], cells))


def _text(value: Any) -> str:
    return ABSENT if value is None or value == "" else f"{value:.4g}" if isinstance(value, float) else str(value)


def _pivot(title: str, note: str, rows: Sequence[Any], show_cell: Callable[[Any], str]) -> Table:
    """One line a model, one column a cohort and metric."""
    cohorts = list(dict.fromkeys(row.cohort for row in rows))
    places = [(cohort, metric) for cohort in cohorts for metric in METRICS]
    found: dict[str, Mapping[tuple[str, str], str]] = {}
    for row in rows:
        found[row.model] = {**found.get(row.model, {}), (row.cohort, row.metric): show_cell(row)}
    lines = [[model, *(cells.get(place, ABSENT) for place in places)] for model, cells in found.items()]
    columns = ["model", *(f"{cohort} {HEADINGS[metric]}" for cohort, metric in places)]
    return Table(title, note, columns, lines)
