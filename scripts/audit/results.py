"""Per-volume results, looked up by model and cohort."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scripts.evaluation.metrics import METRICS
from scripts.evaluation.table import COHORTS, FIELDS


class Results:
    """Metrics of several models on the same volumes.

    Args:
        records: one mapping a model and volume, with the fields of :data:`scripts.evaluation.table.FIELDS`.
    """

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        self._rows: dict[tuple[str, str], list[Mapping]] = defaultdict(list)
        for record in sorted(records, key=lambda record: record["volume"]):
            self._rows[record["model"], record["cohort"]].append(record)

    @classmethod
    def read(cls, path: str | Path) -> Results:
        """Read ``metrics.csv`` as written by :func:`scripts.evaluation.table.write_csv`.

        Raises:
            ValueError: a column is missing.
        """
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        missing = [field for field in FIELDS if rows and field not in rows[0]]
        if missing or not rows:
            raise ValueError(f"{path}: expected the columns {', '.join(FIELDS)}; missing {missing or 'every row'}")
        return cls({**row, **{name: float(row[name]) for name in METRICS}} for row in rows)

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(model for model, _ in self._rows))

    @property
    def cohorts(self) -> list[str]:
        """BTA, KTA and UA in the paper's order, as far as there are volumes."""
        found = {cohort for _, cohort in self._rows}
        return [cohort for cohort in COHORTS if cohort in found]

    def values(self, model: str, cohort: str, metric: str) -> np.ndarray:
        """(n,) the metric of each volume, in the order of their names."""
        return np.array([row[metric] for row in self._rows[model, cohort]], dtype=np.float64)

    def patients(self, cohort: str) -> list[str]:
        """(n,) the patient of each volume, "" where unknown."""
        return [row["patient_id"] for row in self._any(cohort)]

    def volumes(self, cohort: str) -> list[str]:
        """(n,) the names of the volumes."""
        return [row["volume"] for row in self._any(cohort)]

    def _any(self, cohort: str) -> list[Mapping]:
        return next(rows for (_, name), rows in self._rows.items() if name == cohort)
