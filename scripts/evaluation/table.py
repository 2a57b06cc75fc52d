"""From per-volume records to the paper's table: one row a model, BTA, KTA and UA in PSNR, SSIM and NMSE.

A record is a mapping with the fields of `FIELDS`: the result of one model on one volume of one cohort.
Nothing here depends on the order of the records.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.evaluation.metrics import METRICS
from scripts.files import atomic_write

FIELDS = ("model", "cohort", "volume", "patient_id", "anatomy", "slices", *METRICS)
COHORTS = {"BTA": "retain test", "KTA": "forget test", "UA": "forget training data"}
REFERENCES = ("zero-filled", "G", "oracle")  # rows in front of the unlearned models
HEADINGS = {"psnr": "PSNR [dB]", "ssim": "SSIM", "nmse": "NMSE"}
DECIMALS = {"psnr": 2, "ssim": 3, "nmse": 4}
ABSENT = "–"

Record = Mapping[str, Any]
Summary = dict[str, dict[str, dict[str, Any]]]


def write_csv(records: Iterable[Record], path: str | Path) -> None:
    """Write one line a volume, in a fixed order, under a temporary name that is renamed when complete.

    Args:
        records: results with the fields of `FIELDS`, which are the columns; PSNR in dB, full precision.
        path: the file to make.

    Raises:
        ValueError: as `summarise` does, before anything is written.
    """
    rows = _checked(records)
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, FIELDS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def summarise(records: Iterable[Record]) -> Summary:
    """Mean and sample standard deviation (ddof = 1; 0 for a single volume) over the volumes of each cohort.

    Args:
        records: results with the fields of `FIELDS`, in any order.

    Returns:
        {model: {cohort: {"n": volumes, "psnr": {"mean", "std"}, "ssim": …, "nmse": …}}}, in the order of the
        table: references first, then the other models by name.

    Raises:
        ValueError: no record, a missing field, a value that is not finite, a volume given twice, or models
            evaluated on different volumes of one cohort.

    Example:
        >>> scan = {"model": "G", "cohort": "BTA", "patient_id": "P1", "anatomy": "brain", "slices": 2}
        >>> records = [{**scan, "volume": name, "psnr": psnr, "ssim": 0.9, "nmse": 0.01}
        ...            for name, psnr in [("a", 30.0), ("b", 32.0)]]
        >>> summarise(records)["G"]["BTA"]["psnr"]
        {'mean': 31.0, 'std': 1.414...}
    """
    groups: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in _checked(records):
        groups[record["model"]][record["cohort"]].append(record)
    _require_same_volumes(groups)
    return {
        model: {
            cohort: {"n": len(rows), **{name: _mean_and_std([r[name] for r in rows]) for name in METRICS}}
            for cohort, rows in cohorts.items()
        }
        for model, cohorts in groups.items()
    }


def format_table(summary: Summary, markdown: bool = False) -> str:
    """The summary as an aligned plain-text or a Markdown table, mean ± std, with a legend below.

    Args:
        summary: from `summarise`; a cohort without results for a model shows "–".
        markdown: a Markdown table instead of plain text.

    Raises:
        ValueError: the summary is empty.
    """
    if not summary:
        raise ValueError("there are no results to put into a table")
    counts = {cohort: entry["n"] for cohorts in summary.values() for cohort, entry in cohorts.items()}
    cohorts = sorted(counts, key=_cohort_order)
    rows = [
        [model, *(_cell(summary[model].get(cohort), name) for cohort in cohorts for name in METRICS)]
        for model in sorted(summary, key=_model_order)
    ]
    groups = [f"{cohort} (n = {counts[cohort]})" for cohort in cohorts]
    table = _markdown(groups, rows) if markdown else _plain(groups, rows)
    meanings = "; ".join(f"{cohort} = {COHORTS[cohort]}" for cohort in cohorts if cohort in COHORTS)
    legend = "mean ± sample standard deviation over n volumes"
    return "\n".join([*table, "", f"{meanings}; {legend}" if meanings else legend])


def _plain(groups: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rows = [["model", *[HEADINGS[name] for name in METRICS] * len(groups)], *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    spans = [sum(widths[i : i + len(METRICS)]) + 4 for i in range(1, len(widths), len(METRICS))]
    heading = "  ".join([" " * widths[0], *(f" {g} ".center(span, "-") for g, span in zip(groups, spans, strict=True))])
    return [heading.rstrip(), lines[0], "-" * len(lines[0]), *lines[1:]]


def _markdown(groups: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    header = ["model", *(f"{group} {HEADINGS[name]}" for group in groups for name in METRICS)]
    rule = ["---", *["---:"] * (len(header) - 1)]
    rows = [[text.replace("|", r"\|") for text in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in [header, rule, *rows]]


def _cell(entry: Mapping[str, Any] | None, name: str) -> str:
    if entry is None:
        return ABSENT
    return f"{entry[name]['mean']:.{DECIMALS[name]}f} ± {entry[name]['std']:.{DECIMALS[name]}f}"


def _mean_and_std(values: Sequence[float]) -> dict[str, float]:
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return {"mean": mean, "std": math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else 0.0}


def _model_order(model: str) -> tuple[int, str]:
    return (REFERENCES.index(model) if model in REFERENCES else len(REFERENCES), model)


def _cohort_order(cohort: str) -> tuple[int, str]:
    return (list(COHORTS).index(cohort) if cohort in COHORTS else len(COHORTS), cohort)


def _checked(records: Iterable[Record]) -> list[Record]:
    """The records in the table's order, complete, finite and without repetition."""
    rows = list(records)
    if not rows:
        raise ValueError("there are no results: no record was given")
    seen = set()
    for row in rows:
        missing = [field for field in FIELDS if field not in row]
        if missing:
            raise ValueError(f"a result lacks {', '.join(missing)}: {dict(row)}")
        key = (row["model"], row["cohort"], row["volume"])
        for name in METRICS:
            if not math.isfinite(row[name]):
                raise ValueError(f"{name} of {' / '.join(key)} is {row[name]}, expected a finite number")
        if key in seen:
            raise ValueError(f"{' / '.join(key)} was given twice")
        seen.add(key)
    return sorted(rows, key=lambda r: (_model_order(r["model"]), _cohort_order(r["cohort"]), r["volume"]))


def _require_same_volumes(groups: Mapping[str, Mapping[str, Sequence[Record]]]) -> None:
    first: dict[str, tuple[str, set[str]]] = {}
    for model, cohorts in groups.items():
        for cohort, rows in cohorts.items():
            volumes = {row["volume"] for row in rows}
            reference, expected = first.setdefault(cohort, (model, volumes))
            if volumes != expected:
                differing = ", ".join(sorted(volumes ^ expected))
                raise ValueError(f"{model} and {reference} were evaluated on different {cohort} volumes: {differing}")
