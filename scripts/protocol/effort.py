"""What the models of a study cost, and how quality grows with budget and retain fraction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scripts.evaluation.results import COHORTS
from scripts.evaluation.table import ABSENT, DECIMALS, Table, number, percent
from scripts.protocol.cells import LATER
from scripts.protocol.plan import ORACLE, ORIGINAL
from scripts.protocol.results import COUNTS, DELIVERED, NAMES, Results, method_label
from scripts.protocol.tables import Shown, anything, files, in_order


def costs(main: Results) -> Shown:
    """Slices and seconds, mean over seeds, and as shares of training the network that never saw the scans.

    Where that network was given without its run record, the original's training stands in; without either, no share.
    """
    runs = main.runs.assign(**{name: pd.to_numeric(main.runs[name]) for name in COUNTS})
    complete = runs.groupby("model", sort=False).filter(lambda group: group[list(COUNTS)].notna().all(axis=None))
    grouped = complete.groupby("model", sort=False)
    rows = pd.DataFrame({"seeds": grouped.size(), **{name: grouped[name].mean() for name in COUNTS}})
    passes = rows.forward_slices + rows.backward_slices
    reference = next((NAMES[role] for role in (ORACLE, ORIGINAL) if NAMES[role] in rows.index), None)
    rows["passes_share"] = passes / passes[reference] if reference else math.nan
    seconds = rows.seconds[reference] if reference else 0
    rows["seconds_share"] = rows.seconds / seconds if seconds else math.nan
    rows = rows.assign(records=grouped.records.agg(files)).reset_index()
    cells = [
        [r.model, f"{r.epochs:g}", f"{r.forward_slices:,.0f}", f"{r.backward_slices:,.0f}", percent(r.passes_share),
         f"{r.seconds:.1f}", percent(r.seconds_share)] for r in rows.itertuples()
    ]  # fmt: skip
    columns = ["model", "epochs", "slices forward", "slices backward", "passes / training", "time [s]"]
    note = (
        "Slices forward and backward through the network during training or unlearning, and its wall time, which other "
        "work on the machine lengthens; as shares of training the network that never saw the scans."
    )
    return Shown(rows, Table("Run-time efficiency", note, [*columns, "time / training"], cells))


def fractions(results: Results, methods: Sequence[str], words: Mapping[str, str]) -> Shown:
    """PSNR [dB] and cost of some methods at each retain fraction, mean over seeds; ``*_std_seeds`` is their spread."""
    by = ["model", "fraction"]
    runs = results.runs[results.runs.method.isin(methods) & results.runs.budget.isna()]
    scores = results.scores[results.scores.cell.isin(runs.cell) & (results.scores.state == DELIVERED)]
    seeds = scores[scores.metric == "psnr"].groupby([*by, "cell", "cohort"]).value.mean().groupby([*by, "cohort"])
    grouped = runs.assign(passes=runs.forward_slices + runs.backward_slices).groupby(by)
    rows = pd.DataFrame({"seeds": grouped.size()})
    for cohort in COHORTS:
        mean, spread = (found.unstack("cohort").reindex(columns=list(COHORTS)) for found in (seeds.mean(), seeds.std()))
        rows[f"{cohort}_psnr"], rows[f"{cohort}_psnr_std_seeds"] = mean[cohort], spread[cohort]
    for name in ("passes", "seconds"):
        rows[name] = grouped[name].mean() if len(runs) else None
    rows["records"] = grouped.records.agg(files) if len(runs) else None
    rows = rows.reset_index().rename(columns={"fraction": "retain_fraction"})
    order = {method_label(method): place for place, method in enumerate(methods)}
    rows = rows.sort_values(["model", "retain_fraction"], key=lambda c: c.map(order) if c.name == "model" else c)
    return Shown(rows, anything("Retain fraction", "", rows, words))


@dataclass(frozen=True)
class Fit:
    """``y = a u² + b u + c`` with ``u = log10(retain fraction)``, and where it is best."""

    a: float
    b: float
    c: float
    optimum: float  # the retain fraction at the best value within the measured range
    value: float  # the fit there
    inside: bool  # whether that is the vertex of the parabola, and not an end of the range

    def __call__(self, fraction: float | np.ndarray) -> np.ndarray:
        return np.polyval([self.a, self.b, self.c], np.log10(fraction))


def quadratic_fit(fractions: Sequence[float], values: Sequence[float], best: str = "max") -> Fit | None:
    """Least-squares second-degree polynomial over log10 of the retain fraction; None with fewer than three fractions.

    The fractions span two decades, so the logarithm keeps the many small ones from acting as one point.

    Args:
        fractions: Retain fractions in (0, 1].
        values: One for each fraction.
        best: ``max`` or ``min``.

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
    at = max([vertex] if inside else ends, key=lambda x: sign * ((a * x + b) * x + c))
    return Fit(a, b, c, 10.0**at, (a * at + b) * at + c, inside)


def fits(rows: pd.DataFrame) -> dict[tuple[str, str], Fit]:
    """(model, quantity) -> fit of the rows of :func:`fractions`, where there are enough fractions."""
    found = {}
    for model, own in rows.groupby("model", sort=False):
        for quantity, best in (("BTA_psnr", "max"), ("passes", "min"), ("seconds", "min")):
            values = pd.to_numeric(own[quantity])
            fit = quadratic_fit(list(own.retain_fraction), list(values), best) if values.notna().all() else None
            if fit is not None:
                found[model, quantity] = fit
    return found


def fit_rows(found: Mapping[tuple[str, str], Fit], words: Mapping[str, str]) -> Shown:
    """The fits as a table."""
    rows = pd.DataFrame(
        [{"model": model, "quantity": quantity, **vars(fit)} for (model, quantity), fit in found.items()]
    )
    note = "a·u² + b·u + c with u = log10(retain fraction), by least squares; optimum within the measured range."
    return Shown(rows, anything("Second-degree fits", note, rows, words))


def frontier(results: Results, words: Mapping[str, str]) -> Shown:
    """Every method at each of its budgets, as delivered and later, less the network that never saw the scans."""
    by = ["model", "budget", "state", "cohort", "metric"]
    scores = results.scores[
        results.scores.metric.isin(["psnr", "ssim"]) & results.scores.state.isin([DELIVERED, LATER])
    ]
    oracle = scores[scores.role == ORACLE]
    reference = oracle.groupby([*by[2:], "cell"]).value.mean().groupby(by[2:]).mean()
    own = scores[scores.budget.notna()]
    seeds = own.groupby([*by, "cell"], sort=False).value.mean()
    differences = (seeds - reference.reindex(seeds.index.droplevel(["model", "budget", "cell"])).to_numpy()).dropna()
    found = differences.groupby(by, sort=False).agg(seeds="size", gap="mean", lowest="min", highest="max")
    records = own.groupby(by[:2], sort=False).records.agg(lambda r: files(pd.concat([r, oracle.records])))
    rows = found.reset_index().merge(records.reset_index(), on=by[:2]) if len(found) else found.reset_index()
    rows = in_order(rows, ["model", "budget", "state"])
    lines: dict[tuple[str, float], dict[tuple[str, str], list[str]]] = {}
    for row in rows.itertuples():
        digits = DECIMALS[row.metric]
        text = number(row.gap, digits, True)
        if row.seeds > 1:
            text += f" ({number(row.lowest, digits, True)} to {number(row.highest, digits, True)})"
        lines.setdefault((row.model, row.budget), {}).setdefault((row.state, row.cohort), []).append(text)
    places = list(dict.fromkeys(place for line in lines.values() for place in line))
    cells = [
        [model, percent(budget), *(" / ".join(line.get(place, [ABSENT])) for place in places)]
        for (model, budget), line in lines.items()
    ]
    columns = ["model", "passes", *(words[c] if s == DELIVERED else f"later: {words[c]}" for s, c in places)]
    note = (
        "PSNR [dB] / SSIM less those of the network that never saw the scans, mean over the seeds (lowest to highest). "
        "Passes: share of training's backward passes that unlearning may spend. Later: after training went on with the "
        "retain set alone, as that network's did."
    )
    return Shown(rows, Table("What forgetting costs and what it leaves", note, columns, cells))
