"""What the study's models cost, and how quality grows with epochs and with the retain fraction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.evaluation.metrics import METRICS
from scripts.evaluation.results import COHORTS, mean_std
from scripts.protocol.plan import Cell
from scripts.protocol.quality import Groups, cohort_means, record_files, volume_values
from scripts.protocol.results import Result, by_fraction, method_label

COUNTS = ("epochs", "forward_slices", "backward_slices", "seconds")


@dataclass(frozen=True)
class Cost:
    """Slices through the network and seconds, mean over seeds, and the same as shares of training the oracle."""

    model: str
    seeds: int
    epochs: float
    forward_slices: float
    backward_slices: float
    seconds: float
    passes_share: float | None
    seconds_share: float | None
    records: str


@dataclass(frozen=True)
class EpochQuality:
    """Mean quality of a cohort after an epoch of unlearning; epoch 0 is G."""

    model: str
    seed: int
    epoch: int
    cohort: str
    psnr: float
    ssim: float
    nmse: float
    records: str


@dataclass(frozen=True)
class FractionQuality:
    """Mean over seeds of a method's PSNR [dB] and cost at one retain fraction; ``*_std_seeds`` is their spread."""

    model: str
    retain_fraction: float
    seeds: int
    BTA_psnr: float | None
    BTA_psnr_std_seeds: float | None
    KTA_psnr: float | None
    KTA_psnr_std_seeds: float | None
    UA_psnr: float | None
    UA_psnr_std_seeds: float | None
    passes: float | None
    seconds: float | None
    records: str


@dataclass(frozen=True)
class Fit:
    """``y = a u² + b u + c`` with ``u = log10(retain fraction)``, and where it is best.

    Attributes:
        model: The method.
        quantity: What was fitted: ``BTA_psnr`` (dB), ``passes`` or ``seconds``.
        a, b, c: Coefficients.
        optimum: The retain fraction at the best value within the measured range.
        value: The fit there.
        inside: Whether that is the vertex of the parabola, and not an end of the range.
    """

    model: str
    quantity: str
    a: float
    b: float
    c: float
    optimum: float
    value: float
    inside: bool

    def __call__(self, fraction: float | np.ndarray) -> np.ndarray:
        u = np.log10(fraction)
        return (self.a * u + self.b) * u + self.c


@dataclass(frozen=True)
class CellRow:
    """A cell: what it was, how it ended, how long it took, where its record is."""

    cell: str
    role: str
    method: str
    retain_fraction: float | None
    seed: int
    status: str
    error: str | None
    seconds: float | None
    records: str


def cost_rows(groups: Groups) -> list[Cost]:
    """What each model cost.

    Where the oracle was given without its run record, the original's training stands in; without either, no share.
    """
    reference = _mean_cost(groups.get("oracle", [])) or _mean_cost(groups.get("G", []))
    rows = []
    for model, results in groups.items():
        cost = _mean_cost(results)
        if cost is None:
            continue
        passes = _passes(cost) / _passes(reference) if reference else None
        seconds = cost["seconds"] / reference["seconds"] if reference and reference["seconds"] else None
        rows.append(
            Cost(
                model,
                seeds=len(results),
                epochs=cost["epochs"],
                forward_slices=cost["forward_slices"],
                backward_slices=cost["backward_slices"],
                seconds=cost["seconds"],
                passes_share=passes,
                seconds_share=seconds,
                records=record_files(results),
            )
        )
    return rows


def _mean_cost(results: Sequence[Result]) -> dict[str, float] | None:
    costs = [result.cost for result in results]
    if not costs or not all(costs):
        return None
    return {name: mean_std([cost[name] for cost in costs])[0] for name in COUNTS}


def _passes(cost: Mapping[str, float]) -> float:
    return cost["forward_slices"] + cost["backward_slices"]


def epoch_rows(results: Sequence[Result], original: Result) -> list[EpochQuality]:
    """Mean PSNR, SSIM and NMSE of each cohort after each epoch of unlearning."""
    rows = []
    for result in results:
        if not result.epochs:
            continue
        steps = {0: original.rows, **result.epochs, max(result.epochs): result.rows}
        for epoch, values in steps.items():
            for cohort in COHORTS:
                found = [list(volume_values(values, cohort, metric).values()) for metric in METRICS]
                if found[0]:
                    psnr, ssim, nmse = (mean_std(value)[0] for value in found)
                    label, seed, files = method_label(result.cell.method), result.cell.seed, [original, result]
                    rows.append(EpochQuality(label, seed, epoch, cohort, psnr, ssim, nmse, record_files(files)))
    return rows


def fraction_rows(results: Sequence[Result], methods: Sequence[str]) -> list[FractionQuality]:
    """Quality and cost of some methods at each retain fraction."""
    rows = []
    for method in methods:
        for fraction, seeds in by_fraction(results, method).items():
            rows_of = [result.rows for result in seeds]
            means = [cohort_means(rows_of, cohort, "psnr") for cohort in ("BTA", "KTA", "UA")]
            bta, kta, ua = (mean_std(found) if found else (None, None) for found in means)
            cost = _mean_cost(seeds)
            rows.append(
                FractionQuality(
                    method_label(method),
                    fraction,
                    len(seeds),
                    BTA_psnr=bta[0],
                    BTA_psnr_std_seeds=bta[1],
                    KTA_psnr=kta[0],
                    KTA_psnr_std_seeds=kta[1],
                    UA_psnr=ua[0],
                    UA_psnr_std_seeds=ua[1],
                    passes=None if cost is None else _passes(cost),
                    seconds=None if cost is None else cost["seconds"],
                    records=record_files(seeds),
                )
            )
    return rows


def fits(rows: Sequence[FractionQuality]) -> list[Fit]:
    """The fits of each model's PSNR, passes and seconds, where there are enough fractions."""
    found = []
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        for quantity, best in (("BTA_psnr", "max"), ("passes", "min"), ("seconds", "min")):
            values = [getattr(row, quantity) for row in own]
            if None not in values:
                fit = quadratic_fit([row.retain_fraction for row in own], values, best, model, quantity)
                found += [] if fit is None else [fit]
    return found


def quadratic_fit(
    fractions: Sequence[float], values: Sequence[float], best: str = "max", model: str = "", quantity: str = ""
) -> Fit | None:
    """Least-squares second-degree polynomial over log10 of the retain fraction; None with fewer than three fractions.

    The fractions span two decades, so the logarithm keeps the many small ones from acting as one point.

    Args:
        fractions: Retain fractions in (0, 1].
        values: One for each fraction.
        best: ``max`` or ``min``.
        model: The method, for the result.
        quantity: The name of the values, for the result.

    Source: Xue et al. 2024 fit BTA and run time against the retain fraction with a second-degree polynomial.
    """
    if len(set(fractions)) < 3:
        return None
    u = np.log10(np.asarray(fractions, dtype=float))
    a, b, c = (float(x) for x in np.polyfit(u, np.asarray(values, dtype=float), 2))
    sign = 1.0 if best == "max" else -1.0
    ends = [float(u.min()), float(u.max())]
    vertex = -b / (2 * a) if a else math.inf
    inside = sign * a < 0 and ends[0] < vertex < ends[1]
    candidates = [vertex] if inside else ends
    at = max(candidates, key=lambda x: sign * ((a * x + b) * x + c))
    return Fit(model, quantity, a, b, c, 10.0**at, (a * at + b) * at + c, inside)


def cell_rows(cells: Sequence[Cell], records: Mapping[str, Mapping[str, Any]]) -> list[CellRow]:
    """Every cell of the study."""
    rows = []
    for cell in cells:
        record = records[cell.name]
        head = (cell.name, cell.role, cell.method, cell.fraction, cell.seed)
        end = (record["status"], record.get("error"), record.get("seconds"))
        rows.append(CellRow(*head, *end, f"cells/{cell.name}/cell.json"))
    return rows
