"""What the finished cells of a study say, read back from their records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.evaluation.results import ZERO_FILLED, VolumeResult, read_results
from scripts.protocol.cells import FINISHED, LATER, MODEL, RECORD
from scripts.protocol.plan import FORGET_ONLY, ORACLE, ORIGINAL, UNLEARNED, Cell

NAMES = {ORIGINAL: "G", ORACLE: "oracle", FORGET_ONLY: "forget only"}
METHOD_NAMES = {
    "fine_tune": "FT",
    "full_fine_tune": "Full FT",
    "gradient_ascent": "GA-l1",
    "noisy_label": "NL",
    "gradient_ascent_ft": "GA-l1-FT",
    "noisy_label_ft": "NL-FT",
}
TRAINED = tuple(NAMES.values())


@dataclass(frozen=True)
class Result:
    """A finished cell.

    Attributes:
        cell: What was run.
        record: Its record.
        path: The record's path relative to the study's folder.
        rows: Per-volume results of its weights.
        zero_filled: The same of the zero-filled images.
        epochs: The same of the weights after each epoch but the last, by epoch.
        later: The same after training went on with the retain set alone; empty where it did not.
    """

    cell: Cell
    record: Mapping[str, Any]
    path: str
    rows: Sequence[VolumeResult]
    zero_filled: Sequence[VolumeResult]
    epochs: Mapping[int, Sequence[VolumeResult]]
    later: Sequence[VolumeResult] = ()

    @property
    def cost(self) -> Mapping[str, Any]:
        """Counts and seconds of the run record; empty where there is none."""
        return self.record.get("cost") or {}


def method_label(method: str) -> str:
    """The paper's name of a method where it has one: ``noisy_label_ft`` is NL-FT."""
    return METHOD_NAMES.get(method, method.replace("_", " "))


def model_label(cell: Cell, main: bool = True) -> str:
    """How tables call the model of a cell; away from the main retain fraction it is added."""
    if cell.role != UNLEARNED:
        return NAMES[cell.role]
    return method_label(cell.method) if main else f"{method_label(cell.method)}, {100 * (cell.fraction or 0):g} %"


def read_cells(cells: Iterable[Cell], records: Mapping[str, Mapping], root: Path) -> list[Result]:
    """Results of the finished cells, in the order of ``cells``; ``root`` is the study's ``cells`` folder."""
    return [
        _read(cell, records[cell.name], root) for cell in cells if records.get(cell.name, {}).get("status") == FINISHED
    ]


def _read(cell: Cell, record: Mapping, root: Path) -> Result:
    groups: dict[str, list[VolumeResult]] = {}
    for row in read_results(root / cell.name / record["metrics"]):
        groups.setdefault(row.model, []).append(row)
    epochs = {int(name.removeprefix("epoch ")): rows for name, rows in groups.items() if name.startswith("epoch ")}
    path = f"{root.name}/{cell.name}/{RECORD}"
    return Result(cell, record, path, groups[MODEL], groups[ZERO_FILLED], epochs, groups.get(LATER, []))


def weights_path(cell: Cell, record: Mapping[str, Any], root: Path) -> str:
    """The weights file of a finished cell; ``root`` is the study's ``cells`` folder."""
    return cell.given or str(root / cell.name / record["weights"]["path"])


def main_results(results: Iterable[Result], fraction_of: Mapping[str, float]) -> dict[str, list[Result]]:
    """Label -> results of all seeds: G, oracle, forget only, and every method at its main retain fraction and budget.

    Args:
        results: Finished cells.
        fraction_of: method -> main retain fraction.
    """
    grouped: dict[str, list[Result]] = {}
    for result in results:
        if result.cell.budget is not None:
            continue
        if result.cell.role != UNLEARNED or result.cell.fraction == fraction_of[result.cell.method]:
            grouped.setdefault(model_label(result.cell), []).append(result)
    return grouped


def by_fraction(results: Iterable[Result], method: str) -> dict[float, list[Result]]:
    """Retain fraction -> results of all seeds of a method, in ascending order."""
    grouped: dict[float, list[Result]] = {}
    for result in results:
        if result.cell.method == method and result.cell.fraction is not None and result.cell.budget is None:
            grouped.setdefault(result.cell.fraction, []).append(result)
    return dict(sorted(grouped.items()))
