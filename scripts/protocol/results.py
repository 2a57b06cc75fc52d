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
from scripts.protocol.cells import FINISHED, LATER, MODEL, RECORD
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
            ``later``: after training went on with the retain set alone, ``zero-filled``, or ``epoch 1`` and so on),
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
    done = [(cell, records[cell.name]) for cell in cells if records.get(cell.name, {}).get("status") == FINISHED]
    runs = pd.DataFrame([_run(cell, record, root) for cell, record in done], columns=list(COLUMNS))
    scores = [row for cell, record in done for row in _scores(cell, root / cell.name / record["metrics"])]
    return joined(runs, scores)


def joined(runs: pd.DataFrame, scores: Sequence[Mapping[str, Any]]) -> Results:
    """Results of runs and of their scores (``cell``, ``state``, ``cohort``, ``volume``, ``patient``, the metrics)."""
    columns = ["cell", "state", "cohort", "volume", "patient"]
    long = pd.DataFrame(scores, columns=[*columns, *METRICS]).melt(columns, var_name="metric")
    return Results(runs, runs.merge(long, on="cell"))


def weights_path(cell: Cell, record: Mapping[str, Any], root: Path) -> str:
    """The weights file of a finished cell; ``root`` is the study's ``cells`` folder."""
    return cell.given or str(root / cell.name / record["weights"]["path"])


def _run(cell: Cell, record: Mapping[str, Any], root: Path) -> dict[str, Any]:
    return {
        **{name: getattr(cell, name) for name in ("role", "method", "fraction", "budget", "seed")},
        **{name: (record.get("cost") or {}).get(name) for name in COUNTS},
        "cell": cell.name,
        "model": NAMES.get(cell.role) or method_label(cell.method),
        "forgetting": record.get("forgetting") or "",
        "weights": weights_path(cell, record, root),
        "records": f"{root.name}/{cell.name}/{RECORD}",
    }


def _scores(cell: Cell, file: Path) -> list[dict[str, Any]]:
    states = {MODEL: DELIVERED, LATER: LATER}
    return [
        {
            "cell": cell.name,
            "state": states.get(row.model, row.model),
            "cohort": row.cohort,
            "volume": row.volume,
            "patient": row.patient_id,
            **{metric: row.value(metric) for metric in METRICS},
        }
        for row in read_results(file)
    ]
