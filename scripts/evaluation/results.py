"""The result of each model on each volume: written to ``metrics.csv``, read back, looked up and summarised.

Nothing here depends on the order of the results.
"""

from __future__ import annotations

import csv
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from scripts.evaluation.metrics import METRICS
from scripts.run.files import atomic_write

COHORTS = {"BTA": "retain test", "KTA": "forget test", "UA": "forget training data"}
ZERO_FILLED = "zero-filled"
ORIGINAL = "original"
REFERENCES = (ZERO_FILLED, ORIGINAL, "G", "before", "oracle")  # rows in front of the unlearned models
FORMULA = re.compile(r"'*[=+\-@\t\r]")  # how a cell begins that a spreadsheet program would run

Summary = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class VolumeResult:
    """One model on one volume."""

    model: str
    cohort: str  # BTA, KTA, UA, or another part of the data
    volume: str
    patient_id: str  # "" where unknown, as the anatomy
    anatomy: str
    slices: int
    psnr: float  # dB
    ssim: float
    nmse: float  # a fraction

    def value(self, metric: str) -> float:
        """The metric of that name, one of :data:`scripts.evaluation.metrics.METRICS`."""
        return float(getattr(self, metric))


FIELDS = tuple(field.name for field in fields(VolumeResult))


class Results:
    """Metrics of several models on the same volumes, looked up by model and cohort.

    Args:
        results: One result a model and volume, in any order.

    Attributes:
        groups: model -> cohort -> its results, in the order of the table: references first, volumes by name.
        models: The models in that order.
        cohorts: BTA, KTA and UA in the paper's order, as far as there are volumes, then other cohorts.

    Raises:
        ValueError: no result, a value that is not finite, or a volume given twice.
    """

    def __init__(self, results: Iterable[VolumeResult]) -> None:
        self.groups: dict[str, dict[str, list[VolumeResult]]] = {}
        for result in ordered(results):
            self.groups.setdefault(result.model, {}).setdefault(result.cohort, []).append(result)
        self.models = list(self.groups)
        self.cohorts = sorted({cohort for own in self.groups.values() for cohort in own}, key=cohort_order)

    def values(self, model: str, cohort: str, metric: str) -> np.ndarray:
        """(n,) float64, the metric of each volume, in the order of their names."""
        return np.array([row.value(metric) for row in self.groups.get(model, {}).get(cohort, [])], dtype=np.float64)

    def patients(self, cohort: str) -> list[str]:
        """(n,) the patient of each volume, "" where unknown."""
        return [row.patient_id for row in self._any(cohort)]

    def anatomies(self, cohort: str) -> list[str]:
        """(n,) the anatomy of each volume, "" where unknown."""
        return [row.anatomy for row in self._any(cohort)]

    def volumes(self, cohort: str) -> list[str]:
        """(n,) the names of the volumes."""
        return [row.volume for row in self._any(cohort)]

    def _any(self, cohort: str) -> list[VolumeResult]:
        return next((own[cohort] for own in self.groups.values() if cohort in own), [])


def write_results(results: Iterable[VolumeResult], path: str | Path) -> None:
    """Write one line a model and volume, in a fixed order and full precision, whole or not at all.

    Text that a spreadsheet program would run as a formula stands behind an apostrophe, see :func:`csv_text`.

    Raises:
        ValueError: as :func:`summarise` does, before anything is written.
    """
    rows = ordered(results)
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: csv_text(value) for name, value in asdict(row).items()} for row in rows)


def csv_text(value: Any) -> Any:
    """A value for a cell of a CSV file: text that begins as a formula does gets an apostrophe in front.

    Source: OWASP, CSV injection.

    >>> csv_text("=HYPERLINK(A1)"), csv_text("P-7"), csv_text(-1.5)
    ("'=HYPERLINK(A1)", 'P-7', -1.5)
    """
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def read_results(path: str | Path) -> list[VolumeResult]:
    """Read what :func:`write_results` wrote.

    Raises:
        ValueError: naming the file: a column is missing, a value is no number, or there is no row.
    """
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    missing = [field for field in FIELDS if rows and field not in rows[0]]
    if missing or not rows:
        raise ValueError(f"{path}: expected the columns {', '.join(FIELDS)}; missing {missing or 'every row'}")
    results = []
    try:
        for row in rows:
            facts: dict[str, Any] = {name: re.sub(r"^'(?='*[=+\-@\t\r])", "", row[name]) for name in FIELDS[:5]}
            facts |= {"slices": int(row["slices"]), **{name: float(row[name]) for name in METRICS}}
            results.append(VolumeResult(**facts))
    except ValueError as error:
        raise ValueError(f"{path}: expected numbers for slices, {', '.join(METRICS)}: {error}") from error
    return results


def summarise(results: Iterable[VolumeResult]) -> Summary:
    """Mean and sample standard deviation (ddof = 1; 0 for a single volume) over the volumes of each cohort.

    Returns:
        {model: {cohort: {"n": volumes, "psnr": {"mean", "std"}, "ssim": …, "nmse": …}}}, in the order of the table.

    Raises:
        ValueError: no result, a value that is not finite, a volume given twice, or models evaluated on
            different volumes of one cohort.

    Example:
        >>> scan = {"model": "original", "cohort": "BTA", "patient_id": "P1", "anatomy": "brain", "slices": 2}
        >>> results = [VolumeResult(**scan, volume=name, psnr=psnr, ssim=0.9, nmse=0.01)
        ...            for name, psnr in [("a", 30.0), ("b", 32.0)]]
        >>> summarise(results)["original"]["BTA"]["psnr"]
        {'mean': 31.0, 'std': 1.414...}
    """
    found = Results(results)
    for cohort in found.cohorts:
        volumes = {m: {row.volume for row in own[cohort]} for m, own in found.groups.items() if cohort in own}
        reference, expected = next(iter(volumes.items()))
        for model, own in volumes.items():
            if differing := ", ".join(sorted(own ^ expected)):
                raise ValueError(f"{model} and {reference} were evaluated on different {cohort} volumes: {differing}")

    def entry(rows: Sequence[VolumeResult]) -> dict[str, Any]:
        pairs = {name: mean_std([row.value(name) for row in rows]) for name in METRICS}
        return {"n": len(rows), **{name: {"mean": mean, "std": std} for name, (mean, std) in pairs.items()}}

    return {m: {cohort: entry(rows) for cohort, rows in own.items()} for m, own in found.groups.items()}


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value).

    >>> mean_std([1.0, 3.0])
    (2.0, 1.414...)
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def cohort_words(anatomies: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Plain words for the cohorts, from the anatomies of their scans; those of the field where these do not tell.

    >>> cohort_words({"BTA": ["brain"], "KTA": ["knee", "knee"], "UA": ["knee"]})
    {'BTA': 'brain kept', 'KTA': 'knee to forget', 'UA': 'forgotten scans'}
    >>> cohort_words({"BTA": ["brain"], "KTA": ["brain"]})
    {'BTA': 'retain test', 'KTA': 'forget test', 'UA': 'forgotten scans'}
    """
    kept, going = (set(anatomies.get(cohort, ())) for cohort in ("BTA", "KTA"))
    words = {"BTA": "retain test", "KTA": "forget test", "UA": "forgotten scans"}
    if len(kept) == 1 and kept != going and "" not in kept:
        words["BTA"] = f"{kept.pop()} kept"
        if len(going) == 1 and "" not in going:
            words["KTA"] = f"{going.pop()} to forget"
    return words


def model_order(model: str) -> tuple[int, str]:
    """The place of a model in tables: references first."""
    return (REFERENCES.index(model) if model in REFERENCES else len(REFERENCES), model)


def cohort_order(cohort: str) -> tuple[int, str]:
    """The place of a cohort in tables: the paper's order, then others by name."""
    return (list(COHORTS).index(cohort) if cohort in COHORTS else len(COHORTS), cohort)


def ordered(results: Iterable[VolumeResult]) -> list[VolumeResult]:
    """The results in the order of the table.

    Raises:
        ValueError: no result, a value that is not finite, or a volume given twice.
    """
    rows = list(results)
    if not rows:
        raise ValueError("there are no results: no record was given")
    seen = set()
    for row in rows:
        key = (row.model, row.cohort, row.volume)
        for name in METRICS:
            if not math.isfinite(row.value(name)):
                raise ValueError(f"{name} of {' / '.join(key)} is {row.value(name)}, expected a finite number")
        if key in seen:
            raise ValueError(f"{' / '.join(key)} was given twice")
        seen.add(key)
    return sorted(rows, key=lambda row: (model_order(row.model), cohort_order(row.cohort), row.volume))
