"""How good the models of a study are, as tables whose every row names its records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scripts.evaluation.bootstrap import mean_with_interval
from scripts.evaluation.metrics import METRICS
from scripts.evaluation.results import COHORTS, ZERO_FILLED, csv_text
from scripts.evaluation.table import ABSENT, DECIMALS, HEADINGS, Table, markdown, number
from scripts.protocol.cells import LATER
from scripts.protocol.plan import ORACLE, ORIGINAL, Cell
from scripts.protocol.results import DELIVERED, NAMES, Results
from scripts.run.files import write_text

CONFIDENCE = 0.95
KEYS = ["model", "cohort", "metric"]


@dataclass(frozen=True)
class Shown:
    """Rows with all digits, and the table that shows them."""

    rows: pd.DataFrame
    table: Table

    @property
    def records(self) -> list[str]:
        """The record files that the rows come from."""
        named = self.rows.get("records", pd.Series(dtype=str))
        return list(dict.fromkeys(file for records in named for file in records.split("; ")))

    def write(self, stem: Path) -> None:
        """Write ``stem``.csv (all rows, all digits) and ``stem``.md (the table)."""
        write_text(stem.with_suffix(".csv"), self.rows.map(csv_text).to_csv(index=False, lineterminator="\n"))
        write_text(stem.with_suffix(".md"), (markdown(self.table) if len(self.rows) else "no results") + "\n")


def quality(main: Results, words: Mapping[str, str]) -> Shown:
    """Each model's mean and spread in every cohort and metric, the zero-filled image's first.

    Values are averaged over seeds; ``mean`` and ``std`` are those over volumes, ``std_seeds`` is the sample standard
    deviation of the seeds' means, missing with a single seed.
    """
    scores = main.scores
    zero_filled = scores[(scores.role == ORIGINAL) & (scores.state == ZERO_FILLED)].assign(model=ZERO_FILLED)
    scores = pd.concat([zero_filled, scores[scores.state == DELIVERED]])
    volumes = scores.groupby([*KEYS, "volume"], sort=False).value.mean().groupby(KEYS, sort=False)
    seeds = scores.groupby([*KEYS, "cell"], sort=False).value.mean().groupby(KEYS, sort=False)
    columns = {"volumes": volumes.size(), "seeds": seeds.size(), "mean": volumes.mean(), "std": volumes.std()}
    columns |= {"std_seeds": seeds.std(), "records": scores.groupby(KEYS, sort=False).records.agg(files)}
    rows = in_order(pd.DataFrame(columns).reset_index())

    def cell(row: Any) -> str:
        digits = DECIMALS[row.metric]
        parts = [number(row.mean, digits), *([] if pd.isna(row.std) else [f"± {number(row.std, digits)}"])]
        return " ".join([*parts, *([] if pd.isna(row.std_seeds) else [f"({number(row.std_seeds, digits)})"])])

    note = (
        "Averaged over seeds, then mean ± sample standard deviation over volumes; in brackets the standard deviation "
        "of the seeds' means."
    )
    return Shown(rows, pivot("Image quality", note, rows, cell, words))


def band(main: Results, words: Mapping[str, str]) -> Shown:
    """How far the networks that never saw the scans differ, trained alike but for the seed."""
    scores = main.scores[(main.scores.role == ORACLE) & (main.scores.state == DELIVERED)]
    by, found = ["cohort", "metric"], {"seeds": "size", "mean": "mean", "std_seeds": "std", "low": "min", "high": "max"}
    seeds = scores.groupby([*by, "cell"], sort=False).value.mean().groupby(by, sort=False)
    rows = in_order(seeds.agg(**found).assign(records=files(scores.records)).reset_index())
    cells = [
        [
            words[r.cohort],
            HEADINGS[r.metric],
            str(r.seeds),
            *(number(v, DECIMALS[r.metric]) for v in r[["mean", "low", "high"]]),
        ]
        for _, r in rows.iterrows()
    ]
    columns = ["scans", "metric", "seeds", "mean", "lowest", "highest"]
    note = "How far two of them differ that were trained alike but for the seed."
    return Shown(rows, Table("The seeds of the network that never saw the scans", note, columns, cells))


def gaps(main: Results, limits: pd.DataFrame, words: Mapping[str, str], seed: int) -> Shown:
    """Paired difference of each model to the network that never saw the scans, with a bootstrap interval over patients.

    ``within_band`` tells whether the model's mean lies between that network's lowest and highest seed, and is missing
    with a single one; ``low`` and ``high`` are missing with fewer than two patients. ``seed`` is the bootstrap's.
    """
    scores = main.scores[main.scores.state == DELIVERED]
    oracle = scores[scores.role == ORACLE]
    reference = oracle.groupby(["cohort", "metric", "volume"]).value.mean()
    bands = limits.set_index(["cohort", "metric"])
    rows = []
    for (model, cohort, metric), own in scores[scores.role != ORACLE].groupby(KEYS, sort=False):
        if (cohort, metric) not in bands.index:
            continue
        volumes, limit = own.groupby("volume").value.mean(), bands.loc[cohort, metric]
        patients = own.drop_duplicates("volume").set_index("volume").patient[volumes.index]
        difference = (volumes - reference[cohort, metric]).to_numpy()
        found = mean_with_interval(difference, list(patients), CONFIDENCE, seed=seed)
        low, high = found["interval"] or (None, None)
        within = bool(limit.low <= volumes.mean() <= limit.high) if limit.seeds > 1 else None
        records = files(pd.concat([own.records, oracle.records]))
        rows.append([model, cohort, metric, found["patients"], found["value"], low, high, within, records])
    names = [*KEYS, "patients", "difference", "low", "high", "within_band", "records"]
    frame = in_order(pd.DataFrame(rows, columns=names))

    def cell(row: Any) -> str:
        digits = DECIMALS[row.metric]
        text = number(row.difference, digits, True)
        if not pd.isna(row.low):
            text += f" [{number(row.low, digits, True)}, {number(row.high, digits, True)}]"
        return text + (" •" if row.within_band is True else "")

    note = (
        "Paired over volumes, model minus the network that never saw the scans, with a 95 % interval by bootstrap over "
        "patients. • = the mean lies between the lowest and highest seed of that network."
    )
    return Shown(frame, pivot("Difference to the network that never saw the scans", note, frame, cell, words))


def knowledge(rows: pd.DataFrame, words: Mapping[str, str]) -> Shown:
    """What the forgotten scans had taught; ``rows`` are those of :func:`quality`."""
    rows = rows[rows.model.isin(NAMES.values()) & rows.cohort.isin(["BTA", "KTA"])]
    table = rows.pivot(index=["cohort", "metric"], columns="model", values="mean")
    short = {name: role for role, name in NAMES.items()}
    table = table.rename(columns=short).reindex(columns=list(NAMES))
    for other in (ORACLE, "forget_only"):
        table[f"original_minus_{other}"] = table[ORIGINAL] - table[other]
    table = in_order(table.assign(records=files(rows.records)).reset_index())
    signs = [False] * 3 + [True] * 2
    cells = [
        [words[row.cohort], HEADINGS[row.metric],
         *(number(v, DECIMALS[row.metric], s) for v, s in zip(row.iloc[2:7], signs, strict=True))]
        for _, row in table.iterrows()
    ]  # fmt: skip
    columns = ["scans", "metric", *NAMES.values(), "original less second", "original less third"]
    note = "What the forgotten scans had taught: the original saw all scans, the second network all but them."
    return Shown(table, Table("Knowledge gap", note, columns, cells))


def runs(cells: Sequence[Cell], records: Mapping[str, Mapping[str, Any]]) -> Shown:
    """Every cell: what it was, how it ended, how long it took, where its record is."""
    rows = pd.DataFrame(
        [
            {"cell": c.name, "role": c.role, "method": c.method, "retain_fraction": c.fraction, "seed": c.seed,
             **{name: records[c.name].get(name) for name in ("status", "error", "seconds")},
             "records": f"cells/{c.name}/cell.json"} for c in cells
        ]
    )  # fmt: skip
    return Shown(rows, anything("Runs", "", rows, {}))


def mean_psnr(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Model -> cohort -> mean PSNR [dB], of the rows of :func:`quality`."""
    found: dict[str, dict[str, float]] = {}
    for row in rows[rows.metric == "psnr"].itertuples():
        found.setdefault(row.model, {})[row.cohort] = row.mean
    return found


def files(records: pd.Series) -> str:
    """The records of some rows, each once, as one text."""
    return "; ".join(dict.fromkeys(file for text in records for file in text.split("; ")))


def in_order(rows: pd.DataFrame, first: Sequence[str] = ("model",)) -> pd.DataFrame:
    """Models as they come, cohorts and metrics in the paper's order."""
    places = {"state": [DELIVERED, LATER], "cohort": list(COHORTS), "metric": list(METRICS)}
    by = [name for name in (*first, "cohort", "metric") if name in rows]
    keys = {name: places.get(name) or list(dict.fromkeys(rows[name])) for name in by}
    order = sorted(range(len(rows)), key=lambda i: [keys[name].index(rows[name].iloc[i]) for name in by])
    return rows.iloc[order].reset_index(drop=True)


def pivot(
    title: str, note: str, rows: pd.DataFrame, show_cell: Callable[[Any], str], words: Mapping[str, str]
) -> Table:
    """One line a model, one column a cohort and metric."""
    places = list(dict.fromkeys(zip(rows.cohort, rows.metric, strict=True)))
    found = {(row.model, row.cohort, row.metric): show_cell(row) for row in rows.itertuples()}
    models = list(dict.fromkeys(rows.model))
    lines = [[model, *(found.get((model, *place), ABSENT) for place in places)] for model in models]
    return Table(title, note, ["model", *(f"{words[c]} {HEADINGS[m]}" for c, m in places)], lines)


def anything(title: str, note: str, rows: pd.DataFrame, words: Mapping[str, str]) -> Table:
    """Any rows, numbers to four significant digits, without the records."""
    rows = rows.drop(columns="records", errors="ignore")

    def text(value: Any) -> str:
        if pd.isna(value) or value == "":
            return ABSENT
        return f"{value:.4g}" if isinstance(value, float) else words.get(str(value), str(value))

    cells = [[text(value) for value in row] for row in rows.to_numpy(object)]
    return Table(title, note, [" ".join(words.get(w, w) for w in name.split("_")) for name in rows.columns], cells)
