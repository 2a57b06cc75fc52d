"""Figures over something: quality and cost over the retain fraction, quality over the epochs of unlearning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from scripts.evaluation.drawing import FAINT, INK, new_figure, save_figure, styles, tidy
from scripts.evaluation.results import COHORTS
from scripts.protocol.effort import EpochQuality, Fit, FractionQuality
from scripts.protocol.frontier import DELIVERED, LATER, FrontierRow
from scripts.protocol.quality import Band

TITLES = {"BTA": "BTA: retain test", "KTA": "KTA: forget test", "UA": "UA: forget training data"}
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def fraction_curves(
    rows: Sequence[FractionQuality], fits: Sequence[Fit], stem: Path, order: Sequence[str] = ()
) -> bool:
    """BTA and run time over the retain fraction, with the second-degree fit and its optimum (star).

    ``order`` names the models of the other figures, so that colours agree. Returns whether there was something to
    draw: at least two fractions of one method.
    """
    models = list(dict.fromkeys(row.model for row in rows))
    if not any(sum(row.model == model for row in rows) > 1 for model in models):
        return False
    figure = new_figure(9.0, 4.2)
    looks = styles(dict.fromkeys([*order, *models]))
    chosen = {(fit.model, fit.quantity): fit for fit in fits}
    for axes, quantity, label in zip(
        figure.subplots(1, 2), ("BTA_psnr", "seconds"), ("BTA, PSNR [dB]", "time of unlearning [s]"), strict=True
    ):
        for model in models:
            own = [row for row in rows if row.model == model and getattr(row, quantity) is not None]
            if own:
                _curve(axes, own, quantity, chosen.get((model, quantity)), looks[model])
        axes.set_xscale("log")
        shown = [t for t in TICKS if min(r.retain_fraction for r in rows) <= t]
        axes.set_xticks(shown, labels=[f"{100 * t:g}" for t in shown])
        axes.minorticks_off()
        tidy(axes, "retain fraction [%]", label)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=2)
    save_figure(figure, stem, (".svg", ".png"))
    return True


def _curve(axes: Axes, rows: Sequence[FractionQuality], quantity: str, fit: Fit | None, look: tuple[str, str]) -> None:
    (colour, marker), model = look, rows[0].model
    fractions = [row.retain_fraction for row in rows]
    spread = [getattr(row, f"{quantity}_std_seeds", 0.0) for row in rows]
    values = [getattr(row, quantity) for row in rows]
    axes.errorbar(fractions, values, yerr=spread, color=colour, marker=marker, linestyle="", markersize=6, label=model)
    if fit is not None:
        dense = np.geomspace(min(fractions), max(fractions), 200)
        axes.plot(dense, fit(dense), color=colour, linewidth=1.4, alpha=0.8)
        if quantity == "BTA_psnr":
            name = f"optimum of the fit: {100 * fit.optimum:.3g} %" + ("" if fit.inside else " (end of the range)")
            axes.plot(fit.optimum, fit.value, marker="*", markersize=15, color=colour, linestyle="",
                      markeredgecolor="white", label=name)  # fmt: skip


def frontier_curves(rows: Sequence[FrontierRow], stem: Path, order: Sequence[str] = ()) -> bool:
    """What is lost (BTA) and what is left of the forgotten kind, over the budget; both in dB beside the oracle.

    Left is after further training where there was some, else as delivered: the larger of KTA's and UA's distance.
    ``order`` as in :func:`fraction_curves`. Returns whether there was something to draw.
    """
    psnr = [row for row in rows if row.metric == "psnr"]
    if not psnr:
        return False
    state = LATER if any(row.state == LATER for row in psnr) else DELIVERED
    models = list(dict.fromkeys(row.model for row in psnr))
    looks = styles(dict.fromkeys([*order, *models]))
    figure = new_figure(9.0, 4.2)
    kept, left = figure.subplots(1, 2)
    for model in models:
        own = [row for row in psnr if row.model == model]
        kept_gaps = {r.budget: r.gap for r in own if (r.state, r.cohort) == (DELIVERED, "BTA")}
        left_gaps: dict[float, float] = {}
        for row in own:
            if row.state == state and row.cohort != "BTA":
                left_gaps[row.budget] = max(abs(row.gap), left_gaps.get(row.budget, 0.0))
        for axes, gaps in ((kept, kept_gaps), (left, left_gaps)):
            points = sorted((100 * budget, gap) for budget, gap in gaps.items())
            colour, marker = looks[model]
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=5, linewidth=1.5, label=model)
    after = ", after training went on" if state == LATER else ", as delivered"
    kept.axhline(0, color=INK, linewidth=0.8)
    left.set_ylim(bottom=0)
    tidy(kept, "passes [% of training's]", "BTA less the oracle's [dB]")
    tidy(left, "passes [% of training's]", "distance to the oracle's [dB]")
    kept.set_title("BTA, as delivered", fontsize=10)
    left.set_title(f"larger of KTA and UA{after}", fontsize=10)
    handles, labels = kept.get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=4)
    save_figure(figure, stem, (".svg", ".png"))
    return True


def dynamics_curves(rows: Sequence[EpochQuality], band: Sequence[Band], stem: Path) -> bool:
    """PSNR of each cohort after each epoch of unlearning, epoch 0 being G; the oracle's mean and seeds beside it.

    Returns whether there was something to draw.
    """
    if not rows:
        return False
    models = list(dict.fromkeys(row.model for row in rows))
    cohorts = [cohort for cohort in COHORTS if any(row.cohort == cohort for row in rows)]
    looks = styles(models)
    limits = {row.cohort: row for row in band if row.metric == "psnr"}
    figure = new_figure(9.0, 3.9)
    for axes, cohort in zip(figure.subplots(1, len(cohorts), squeeze=False)[0], cohorts, strict=True):
        if cohort in limits:
            oracle = limits[cohort]
            axes.axhspan(oracle.low, oracle.high, color=FAINT, linewidth=0)
            axes.axhline(oracle.mean, color="black", linestyle="--", linewidth=1.2, label="oracle (its seeds shaded)")
        for model in models:
            own = sorted((r.epoch, r.psnr) for r in rows if (r.model, r.cohort) == (model, cohort))
            colour, marker = looks[model]
            axes.plot(*zip(*own, strict=True), color=colour, marker=marker, markersize=5, linewidth=1.5, label=model)
        axes.set_title(TITLES[cohort], fontsize=10)
        axes.xaxis.get_major_locator().set_params(integer=True)
        tidy(axes, "epoch of unlearning", "PSNR [dB]" if cohort == cohorts[0] else "")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=4)
    save_figure(figure, stem, (".svg", ".png"))
    return True
