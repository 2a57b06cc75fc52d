"""What forgetting costs and what it leaves: each method at several budgets, beside the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scripts.evaluation.results import COHORTS, mean_std
from scripts.protocol.plan import ORACLE
from scripts.protocol.quality import cohort_means, record_files
from scripts.protocol.results import Result, method_label

DELIVERED, LATER = "delivered", "later"


@dataclass(frozen=True)
class FrontierRow:
    """A method at one budget, in one cohort and metric, less the oracle.

    Attributes:
        model: The method.
        budget: Share of training's backward passes.
        seeds: The number of seeds.
        state: ``delivered``, or ``later``: after training went on with the retain set alone, the oracle treated alike.
        cohort: BTA, KTA or UA.
        metric: ``psnr`` [dB] or ``ssim``.
        gap: The cohort's mean less that of the oracles, mean over the seeds.
        lowest, highest: The same of single seeds.
        records: The records that this comes from.
    """

    model: str
    budget: float
    seeds: int
    state: str
    cohort: str
    metric: str
    gap: float
    lowest: float
    highest: float
    records: str


def frontier_rows(results: Sequence[Result]) -> list[FrontierRow]:
    """Every method that was run at a budget, as delivered and, where training went on, later."""
    oracles = [result for result in results if result.cell.role == ORACLE]
    grouped: dict[tuple[str, float], list[Result]] = {}
    for result in results:
        if result.cell.budget is not None:
            grouped.setdefault((method_label(result.cell.method), result.cell.budget), []).append(result)
    rows = []
    for (model, budget), seeds in grouped.items():
        records = record_files([*seeds, *oracles])
        for state in (DELIVERED, LATER):
            own, other = ([_rows(result, state) for result in side] for side in (seeds, oracles))
            for cohort in COHORTS:
                for metric in ("psnr", "ssim"):
                    means, reference = (cohort_means(side, cohort, metric) for side in (own, other))
                    if means and reference:
                        gaps = [mean - mean_std(reference)[0] for mean in means]
                        found = (mean_std(gaps)[0], min(gaps), max(gaps))
                        rows.append(FrontierRow(model, budget, len(gaps), state, cohort, metric, *found, records))
    return rows


def _rows(result: Result, state: str) -> Sequence:
    return result.rows if state == DELIVERED else result.later
