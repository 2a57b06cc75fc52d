"""Tables on disk: CSV and JSON with every digit, Markdown to read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.evaluation.metrics import METRICS
from scripts.evaluation.table import ABSENT, DECIMALS, HEADINGS
from scripts.files import atomic_write

Row = Mapping[str, Any]


def write_table(rows: Sequence[Row], stem: Path, readable: Sequence[Row]) -> None:
    """Write ``stem``.csv and ``stem``.json (all rows, all digits) and ``stem``.md (the readable form)."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    texts = {".csv": stream.getvalue(), ".json": json.dumps(list(rows), indent=2, ensure_ascii=False) + "\n"}
    texts[".md"] = markdown(readable)
    for suffix, text in texts.items():
        write_text(stem.with_suffix(suffix), text)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_write(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table of rows whose values are ready to be shown.

    >>> print(markdown([{"model": "G", "BTA": "30.1"}]), end="")
    | model | BTA |
    | --- | --- |
    | G | 30.1 |
    """
    if not rows:
        return "no results\n"
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return "".join("| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def number(value: float | None, metric: str, signed: bool = False) -> str:
    """A metric with its usual decimals.

    >>> number(30.126, "psnr"), number(None, "ssim"), number(0.5, "psnr", signed=True)
    ('30.13', '–', '+0.50')
    """
    return ABSENT if value is None else f"{value:{'+' if signed else ''}.{DECIMALS[metric]}f}".replace("-", "−")


def readable_quality(rows: Sequence[Row]) -> list[dict[str, str]]:
    """One line a model, mean ± std over volumes, the seeds' spread in brackets."""
    return _pivot(rows, _mean_and_std)


def readable_gaps(rows: Sequence[Row]) -> list[dict[str, str]]:
    """One line a model: difference to the oracle [95 % interval], • where it is within the oracle's band."""
    return _pivot(rows, _gap)


def _mean_and_std(row: Row, metric: str) -> str:
    return f"{number(row['mean'], metric)} ± {number(row['std'], metric)}{_seeds(row)}"


def _gap(row: Row, metric: str) -> str:
    text = number(row["difference"], metric, signed=True)
    if row["low"] is not None:
        text += f" [{number(row['low'], metric, signed=True)}, {number(row['high'], metric, signed=True)}]"
    return text + (" •" if row["within_band"] else "")


def _seeds(row: Row) -> str:
    return "" if row["std_seeds"] is None else f" ({number(row['std_seeds'], row['metric'])})"


def _pivot(rows: Sequence[Row], show) -> list[dict[str, str]]:
    columns = [(cohort, metric) for cohort in dict.fromkeys(row["cohort"] for row in rows) for metric in METRICS]
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        line = lines.setdefault(row["model"], {"model": row["model"], **{_heading(*c): ABSENT for c in columns}})
        line[_heading(row["cohort"], row["metric"])] = show(row, row["metric"])
    return list(lines.values())


def _heading(cohort: str, metric: str) -> str:
    return f"{cohort} {HEADINGS[metric]}"


def readable_efficiency(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Passes and time, absolute and as a share of training the oracle."""
    return [
        {
            "model": row["model"],
            "epochs": f"{row['epochs']:g}",
            "slices forward": f"{row['forward_slices']:,.0f}",
            "slices backward": f"{row['backward_slices']:,.0f}",
            "passes / training": percent(row["passes_share"]),
            "time [s]": f"{row['seconds']:.1f}",
            "time / training": percent(row["seconds_share"]),
        }
        for row in rows
    ]


def percent(share: float | None) -> str:
    """A share as per cent.

    >>> percent(0.0312), percent(None)
    ('3.1 %', '–')
    """
    return ABSENT if share is None else f"{100 * share:.1f} %"


def readable_knowledge(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Values and gaps of the trained models."""
    return [
        {
            "test set": {"BTA": "retain test (BTA)", "KTA": "forget test (KTA)"}[row["cohort"]],
            "metric": HEADINGS[row["metric"]],
            **{
                key: number(value, row["metric"], signed="−" in key)
                for key, value in row.items()
                if key not in ("cohort", "metric", "records")
            },
        }
        for row in rows
    ]


def readable_band(rows: Sequence[Row]) -> list[dict[str, str]]:
    """The oracle's seeds, lowest to highest."""
    return [
        {
            "cohort": row["cohort"],
            "metric": HEADINGS[row["metric"]],
            "seeds": str(row["seeds"]),
            "mean": number(row["mean"], row["metric"]),
            "lowest": number(row["low"], row["metric"]),
            "highest": number(row["high"], row["metric"]),
        }
        for row in rows
    ]


def readable(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Any rows, numbers to four significant digits, without the records."""
    return [
        {k.replace("_", " "): ABSENT if v is None or v == "" else f"{v:.4g}" if isinstance(v, float) else str(v)
         for k, v in row.items() if k != "records"}
        for row in rows
    ]  # fmt: skip
