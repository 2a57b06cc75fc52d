"""What the finished cells of a study say: one table of runs and one of their scores, in long form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scripts.evaluation.metrics import METRICS
from scripts.evaluation.results import read_results
from scripts.evaluation.table import MODELS
from scripts.protocol.cells import FINISHED, MODEL, RECORD
from scripts.protocol.plan import FORGET_ONLY, ORACLE, ORIGINAL, UNLEARNED, Cell

DELIVERED = "delivered"
NAMES = {
    ORIGINAL: MODELS["G"],
    ORACLE: MODELS["oracle"],
    FORGET_ONLY: "network that saw them alone",
}
METHOD_NAMES = {
    "fine_tune": "FT",
    "full_fine_tune": "Full FT",
    "gradient_ascent": "GA-l1",
    "noisy_label": "NL",
    "gradient_ascent_ft": "GA-l1-FT",
    "noisy_label_ft": "NL-FT",
}
COUNTS = ("epochs", "forward_slices", "backward_slices", "seconds")
COLUMNS = ("cell", "role", "method", "model", "fraction", "budget", "seed", "forgetting", *COUNTS, "weights", "records")


@dataclass(frozen=True)
class Results:
    """The finished cells.

    Attributes:
        runs: One line a cell with ``cell``, ``role``, ``method``, ``model`` (how tables call it), ``fraction``,
            ``budget``, ``seed``, ``forgetting`` (exact or approximate, "" where the run's record does not say), what it
            cost (``epochs``, ``forward_slices``, ``backward_slices``, ``seconds``), ``weights`` (the file) and
            ``records`` (the record's path relative to the study's folder).
        scores: One line a cell, state, volume and metric: the columns of ``runs`` with ``state`` (``delivered``,
            ``later``: after training went on with the retain set alone, or ``zero-filled``),
            ``cohort``, ``volume``, ``patient``, ``metric`` and ``value``.
    """

    runs: pd.DataFrame
    scores: pd.DataFrame

    def at(self, fractions: Mapping[str, float]) -> Results:
        """The trained models, and every method at its main retain fraction (method -> fraction) and budget."""
        main = self.runs.method.map(fractions)
        kept = self.runs[self.runs.budget.isna() & ((self.runs.role != UNLEARNED) | (self.runs.fraction == main))]
        return Results(kept, self.scores[self.scores.cell.isin(kept.cell)])


def method_label(method: str) -> str:
    """The paper's name of a method where it has one: ``noisy_label_ft`` is NL-FT."""
    return METHOD_NAMES.get(method, method.replace("_", " "))


def read_cells(cells: Iterable[Cell], records: Mapping[str, Mapping], root: Path) -> Results:
    """Results of the finished cells, in the order of ``cells``; ``root`` is the study's ``cells`` folder."""
    runs, scores = [], []
    for cell, record in ((cell, records.get(cell.name, {})) for cell in cells):
        if record.get("status") != FINISHED:
            continue
        cost = record.get("cost") or {}
        facts = {name: getattr(cell, name) for name in ("role", "method", "fraction", "budget", "seed")}
        facts |= {"cell": cell.name, "model": NAMES.get(cell.role) or method_label(cell.method)}
        facts |= {name: cost.get(name) for name in COUNTS} | {"forgetting": record.get("forgetting") or ""}
        facts |= {"weights": weights_path(cell, record, root), "records": f"{root.name}/{cell.name}/{RECORD}"}
        runs.append(facts)
        for row in read_results(root / cell.name / record["metrics"]):
            place = {"cell": cell.name, "state": DELIVERED if row.model == MODEL else row.model, "cohort": row.cohort}
            place |= {"volume": row.volume, "patient": row.patient_id}
            scores.append(place | {metric: row.value(metric) for metric in METRICS})
    return joined(pd.DataFrame(runs, columns=list(COLUMNS)), scores)


def joined(runs: pd.DataFrame, scores: Sequence[Mapping[str, Any]]) -> Results:
    """Results of runs and of their scores (``cell``, ``state``, ``cohort``, ``volume``, ``patient``, the metrics)."""
    columns = ["cell", "state", "cohort", "volume", "patient"]
    long = pd.DataFrame(scores, columns=[*columns, *METRICS]).melt(columns, var_name="metric")
    return Results(runs, runs.merge(long, on="cell"))


def weights_path(cell: Cell, record: Mapping[str, Any], root: Path) -> str:
    """The weights file of a finished cell; ``root`` is the study's ``cells`` folder."""
    return cell.given or str(root / cell.name / record["weights"]["path"])
