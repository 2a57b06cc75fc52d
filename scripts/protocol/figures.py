"""The figures of a study: its methods beside each other, and their quality over budgets and retain fractions.

Each function returns whether there was something to draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import ScalarFormatter

from scripts.evaluation.drawing import FAINT, INK, new_figure, save_figure, styles, tidy
from scripts.evaluation.results import COHORTS
from scripts.protocol.cells import LATER
from scripts.protocol.effort import Fit
from scripts.protocol.plan import FORGET_ONLY, ORACLE
from scripts.protocol.results import DELIVERED, NAMES
from scripts.protocol.tables import Shown, mean_psnr

REFERENCE = NAMES[ORACLE]
ANGLES = np.deg2rad([90, 0, 270, 180])
COLUMNS = 4
LINEAR = 2.0  # dB; axes that show gaps are logarithmic beyond, so that a ruined model hides no other
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
CAPTIONS = {
    "panels": (
        "Reconstructions and their errors",
        "Upper rows: target and reconstructions of one slice, on one grey scale. Lower rows: error maps on one common "
        f"scale. Shown are the original, the best unlearned network, and the {REFERENCE}.",
    ),
    "radar": (
        "Quality and efficiency of each method",
        f"A method is good where its three quality axes meet those of the {REFERENCE} (dashed) and the passes it saves "
        "reach far out.",
    ),
    "pareto": (
        "What is kept against what is forgotten",
        f"Differences of mean PSNR to the {REFERENCE}, which lies at the origin, with 95 % intervals over patients; "
        "the grey box spans its own seeds. Right: still known. Left: worse than never seen. "
        f"Logarithmic beyond {LINEAR:g} dB.",
    ),
    "retain_fraction": (
        "How much retained data is needed",
        "Mean over seeds, bars: their standard deviation. Lines: second-degree fit over the logarithm of the retain "
        "fraction; the star marks its optimum.",
    ),
    "frontier": (
        "What forgetting costs and what it leaves",
        f"Differences of mean PSNR to the {REFERENCE} over the share of training's backward passes that unlearning may "
        "spend, mean over seeds. At the right the larger distance on the forgotten kind, after training went on with "
        "the retain set alone where the study measured that: what was suppressed comes back there.",
    ),
}


def draw_charts(
    found: Mapping[str, Shown], fits: Mapping[tuple[str, str], Fit], folder: Path, words: Mapping[str, str]
) -> list[str]:
    """Draw what there are data for; return the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {name: shown.rows for name, shown in found.items()}
    order = list(dict.fromkeys(rows["gaps"].model))
    drawn = {
        "radar": radar(rows["quality"], rows["efficiency"], words, folder / "radar"),
        "pareto": pareto(rows["gaps"], rows["seeds"], words, folder / "pareto"),
        "retain_fraction": fraction_curves(rows["retain_fraction"], fits, words, folder / "retain_fraction", order),
        "frontier": frontier_curves(rows["frontier"], words, folder / "frontier", order),
    }
    return [name for name, done in drawn.items() if done]


def radar(qualities: pd.DataFrame, costs: pd.DataFrame, words: Mapping[str, str], stem: Path) -> bool:
    """One small chart a method: three cohorts in dB on one common scale, and the passes saved in per cent.

    The outline of the network that never saw the scans is in each of them.
    """
    psnr, shares = mean_psnr(qualities), dict(zip(costs.model, costs.passes_share, strict=True))
    methods = [model for model in psnr if model in shares and model not in NAMES.values()]
    if not methods or REFERENCE not in psnr or any(set(COHORTS) - set(psnr[m]) for m in [*methods, REFERENCE]):
        return False
    values = [psnr[m][c] for m in [*methods, REFERENCE] for c in COHORTS]
    low, high = 5 * math.floor(min(values) / 5 - 0.2), 5 * math.ceil(max(values) / 5)
    lines = math.ceil(len(methods) / COLUMNS)
    figure = new_figure(9.0, 0.7 + 2.75 * lines)
    looks = styles(methods)
    for index, method in enumerate(methods):
        axes = figure.add_subplot(lines, COLUMNS, index + 1, projection="polar")
        saved = 0.0 if math.isnan(shares[method]) else max(0.0, 1 - shares[method])
        for model, saves, colour in ((REFERENCE, 0.0, INK), (method, saved, looks[method][0])):
            radii = [*((psnr[model][c] - low) / (high - low) for c in COHORTS), saves]
            closed = [*ANGLES, ANGLES[0]], [*radii, radii[0]]
            axes.plot(*closed, color=colour, linewidth=1.6, linestyle="--" if model == REFERENCE else "-")
            if model == method:
                axes.fill(*closed, color=colour, alpha=0.22, linewidth=0)
        names = {**words, "KTA": words["KTA"].replace(" ", "\n")}  # it stands at the right, where there is no room
        labels = [f"{names[c]}\n{psnr[method][c]:.1f} dB" for c in COHORTS] + [f"saved\n{100 * saved:.0f} %"]
        axes.set_xticks(ANGLES, labels, fontsize=7.5, parse_math=False)
        axes.tick_params(axis="x", pad=5)
        axes.set_ylim(0, 1)
        axes.set_yticks([0.25, 0.5, 0.75, 1.0], labels=[])
        axes.grid(color=FAINT, linewidth=0.6)
        axes.spines["polar"].set_color(FAINT)
        axes.set_title(method, fontsize=10, fontweight="bold", pad=12)
    scale = f"PSNR: {low} dB (centre) to {high} dB (rim) · passes saved: 0 to 100 %"
    figure.supxlabel(f"coloured: method · dashed: {REFERENCE} · {scale}", fontsize=8)
    return _saved(figure, stem)


def pareto(gaps: pd.DataFrame, band: pd.DataFrame, words: Mapping[str, str], stem: Path) -> bool:
    """Retain gap against forget gap in dB; the seeds of the network that never saw the scans are shaded.

    The origin is that network. Right of it a model still knows the forget set; left of it it is worse there than one
    that never saw it.
    """
    rows = gaps[(gaps.metric == "psnr") & (gaps.model != NAMES[FORGET_ONLY])]
    points = {model: {row.cohort: row for row in own.itertuples()} for model, own in rows.groupby("model", sort=False)}
    points = {model: cohorts for model, cohorts in points.items() if {"BTA", "KTA"} <= set(cohorts)}
    if not points:
        return False
    figure = new_figure(7.2, 4.8)
    axes = figure.add_subplot()
    limits = {row.cohort: row for row in band.itertuples() if row.metric == "psnr" and row.seeds > 1}
    if {"BTA", "KTA"} <= set(limits):
        x, y = limits["KTA"], limits["BTA"]
        box = Rectangle((x.low - x.mean, y.low - y.mean), x.high - x.low, y.high - y.low)
        box.set(facecolor="#bbbbbb", edgecolor="#777777", label="its seeds")
        axes.add_patch(box)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.axvline(0, color=INK, linewidth=0.8)
    looks = styles(points)
    for model, cohorts in points.items():
        (x, x_bar), (y, y_bar) = ((cohorts[c].difference, _bar(cohorts[c])) for c in ("KTA", "BTA"))
        colour, marker = looks[model]
        axes.errorbar(x, y, xerr=x_bar, yerr=y_bar, color=colour, marker=marker, markersize=8, linestyle="",
                      elinewidth=1, label=model)  # fmt: skip
    axes.plot(0, 0, marker="+", markersize=12, color=INK, linestyle="", label=REFERENCE, markeredgewidth=2)
    axes.set_xscale("symlog", linthresh=LINEAR)
    axes.set_yscale("symlog", linthresh=LINEAR)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
    tidy(axes, f"{words['KTA']}: difference in PSNR [dB]", f"{words['BTA']}: difference in PSNR [dB]")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return _saved(figure, stem)


def _bar(row: Any) -> list[list[float]] | None:
    """How far the interval reaches to both sides of the mean."""
    if pd.isna(row.low):
        return None
    return [[max(0.0, row.difference - row.low)], [max(0.0, row.high - row.difference)]]


def fraction_curves(
    rows: pd.DataFrame,
    fits: Mapping[tuple[str, str], Fit],
    words: Mapping[str, str],
    stem: Path,
    order: Sequence[str] = (),
) -> bool:
    """What is kept and run time over the retain fraction, with the second-degree fit and its optimum (star).

    ``order`` names the models of the other figures, so that colours agree. At least two fractions of one method are
    needed.
    """
    if rows.empty or rows.groupby("model").size().max() < 2:
        return False
    figure = new_figure(9.0, 4.2)
    looks = styles(dict.fromkeys([*order, *rows.model]))
    labels = {"BTA_psnr": f"{words['BTA']}, PSNR [dB]", "seconds": "time of unlearning [s]"}
    for axes, (quantity, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        for model, own in rows.groupby("model", sort=False):
            own = own[own[quantity].notna()]
            if len(own):
                _curve(axes, own, quantity, fits.get((model, quantity)), looks[model])
        axes.set_xscale("log")
        shown = [t for t in TICKS if rows.retain_fraction.min() <= t]
        axes.set_xticks(shown, labels=[f"{100 * t:g}" for t in shown])
        axes.minorticks_off()
        tidy(axes, "retain fraction [%]", label)
    return _saved(figure, stem, columns=2)


def _curve(axes: Axes, rows: pd.DataFrame, quantity: str, fit: Fit | None, look: tuple[str, str]) -> None:
    (colour, marker), fractions = look, list(rows.retain_fraction)
    spread = rows[f"{quantity}_std_seeds"].fillna(0.0) if f"{quantity}_std_seeds" in rows else [0.0] * len(rows)
    style: Any = {"color": colour, "marker": marker, "linestyle": "", "markersize": 6, "label": rows.model.iloc[0]}
    axes.errorbar(fractions, list(rows[quantity]), yerr=list(spread), **style)
    if fit is not None:
        dense = np.geomspace(min(fractions), max(fractions), 200)
        axes.plot(dense, fit(dense), color=colour, linewidth=1.4, alpha=0.8)
        if quantity == "BTA_psnr":
            name = f"optimum of the fit: {100 * fit.optimum:.3g} %" + ("" if fit.inside else " (end of the range)")
            axes.plot(fit.optimum, fit.value, marker="*", markersize=15, color=colour, linestyle="",
                      markeredgecolor="white", label=name)  # fmt: skip


def frontier_curves(rows: pd.DataFrame, words: Mapping[str, str], stem: Path, order: Sequence[str] = ()) -> bool:
    """What is lost of what stays and what is left of the forgotten kind, over the budget, in dB.

    Left is after further training where there was some, else as delivered: the larger distance of KTA and UA.
    ``order`` as in :func:`fraction_curves`.
    """
    psnr = rows[rows.metric == "psnr"]
    if psnr.empty:
        return False
    state = LATER if (psnr.state == LATER).any() else DELIVERED
    looks = styles(dict.fromkeys([*order, *psnr.model]))
    figure = new_figure(9.0, 4.2)
    kept, left = figure.subplots(1, 2)
    lost = psnr[(psnr.state == DELIVERED) & (psnr.cohort == "BTA")]
    known = psnr[(psnr.state == state) & (psnr.cohort != "BTA")].assign(gap=lambda found: found.gap.abs())
    for axes, found in ((kept, lost), (left, known)):
        for model, gaps in found.groupby("model", sort=False):
            points, (colour, marker) = gaps.groupby("budget").gap.max(), looks[model]
            style: Any = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.5, "label": model}
            axes.plot(100 * points.index.to_numpy(), points.to_numpy(), **style)
    for axes in (kept, left):
        axes.axhline(0, color=INK, linewidth=0.8)
    tidy(kept, "passes [% of training's]", "difference in PSNR [dB]")
    tidy(left, "passes [% of training's]", "distance in PSNR [dB]")
    kept.set_title(f"{words['BTA']}, as delivered", fontsize=10, parse_math=False)
    left.set_title("forgotten kind" + (", after training went on" if state == LATER else ", as delivered"), fontsize=10)
    return _saved(figure, stem, columns=4)


def _saved(figure: Figure, stem: Path, columns: int = 0) -> bool:
    """Write a figure as .svg and .png, with one legend of so many columns below it."""
    if columns:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=columns)
    save_figure(figure, stem, (".svg", ".png"))
    return True
