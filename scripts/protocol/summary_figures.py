"""Figures that compare models: the radar chart and the retain gap against the forget gap."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from scripts.evaluation.drawing import FAINT, INK, REFERENCE_COLOURS, new_figure, save_figure, styles, tidy
from scripts.protocol.effort import Cost
from scripts.protocol.quality import Band, Gap, Quality, mean_psnr
from scripts.protocol.results import TRAINED

AXES = ("BTA", "KTA", "UA", "RTE")
ANGLES = np.deg2rad([90, 0, 270, 180])
COLUMNS = 4
FAR = 6.0  # a model more than this many times the typical gap away is drawn at the border, with an arrow


def radar(quality: Sequence[Quality], costs: Sequence[Cost], stem: Path) -> bool:
    """One small chart a method: BTA, KTA and UA in dB on one common scale, and RTE, the passes saved in per cent.

    The oracle's outline is in each of them: the closer the three quality axes, the better; RTE is better outside.
    Returns whether there was something to draw.
    """
    psnr = mean_psnr(quality)
    shares = {row.model: row.passes_share for row in costs}
    methods = [model for model in psnr if model in shares and model not in TRAINED]
    if not methods or "oracle" not in psnr or any(set(AXES[:3]) - set(psnr[m]) for m in [*methods, "oracle"]):
        return False
    values = [psnr[m][c] for m in [*methods, "oracle"] for c in AXES[:3]]
    low, high = 5 * math.floor(min(values) / 5 - 0.2), 5 * math.ceil(max(values) / 5)
    lines = math.ceil(len(methods) / COLUMNS)
    figure = new_figure(9.0, 0.7 + 2.75 * lines)
    colours = styles(methods)
    for index, method in enumerate(methods):
        axes = figure.add_subplot(lines, COLUMNS, index + 1, projection="polar")
        share = shares[method]
        saved = 0.0 if share is None else max(0.0, 1 - share)
        radii = [(psnr[method][c] - low) / (high - low) for c in AXES[:3]] + [saved]
        oracle = [(psnr["oracle"][c] - low) / (high - low) for c in AXES[:3]] + [0.0]
        _outline(axes, oracle, INK, fill=False)
        _outline(axes, radii, colours[method][0], fill=True)
        axes.set_xticks(ANGLES)
        labels = [f"{c}\n{psnr[method][c]:.1f} dB" for c in AXES[:3]] + [f"RTE\n{100 * saved:.0f} %"]
        axes.set_xticklabels(labels, fontsize=7.5)
        axes.tick_params(axis="x", pad=5)
        axes.set_ylim(0, 1)
        axes.set_yticks([0.25, 0.5, 0.75, 1.0], labels=[])
        axes.grid(color=FAINT, linewidth=0.6)
        axes.spines["polar"].set_color(FAINT)
        axes.set_title(method, fontsize=10, fontweight="bold", pad=12)
    scale = f"BTA, KTA, UA: {low} dB (centre) to {high} dB (rim) · RTE: passes saved, 0 to 100 %"
    note = f"coloured: method · dashed: oracle · {scale}"
    figure.supxlabel(note, fontsize=8)
    save_figure(figure, stem, (".svg", ".png"))
    return True


def _outline(axes: Axes, radii: Sequence[float], colour: str, fill: bool) -> None:
    angles, closed = [*ANGLES, ANGLES[0]], [*radii, radii[0]]
    axes.plot(angles, closed, color=colour, linewidth=1.6, linestyle="-" if fill else "--")
    if fill:
        axes.fill(angles, closed, color=colour, alpha=0.22, linewidth=0)


def pareto(gaps: Sequence[Gap], band: Sequence[Band], stem: Path) -> bool:
    """Retain gap (BTA) against forget gap (KTA) to the oracle in dB; the oracle's seed-to-seed band is shaded.

    The origin is the oracle. Right of it the model still knows the forget set; left of it it is worse there than one
    that never saw it. Models far away are drawn at the border with their values. Returns whether there was something.
    """
    points: dict[str, dict[str, Gap]] = {}
    for row in gaps:
        if row.metric == "psnr" and row.model != "forget only":
            points.setdefault(row.model, {})[row.cohort] = row
    points = {model: cohorts for model, cohorts in points.items() if {"BTA", "KTA"} <= set(cohorts)}
    if not points:
        return False
    figure = new_figure(7.2, 4.8)
    axes = figure.add_subplot()
    limits = {row.cohort: row for row in band if row.metric == "psnr" and row.seeds > 1}
    if {"BTA", "KTA"} <= set(limits):
        (left, width), (bottom, height) = (_span(limits[cohort]) for cohort in ("KTA", "BTA"))
        axes.add_patch(
            Rectangle((left, bottom), width, height, facecolor="#bbbbbb", edgecolor="#777777", label="oracle's seeds")
        )
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.axvline(0, color=INK, linewidth=0.8)
    reach = {c: _reach([points[m][c].difference for m in points]) for c in ("KTA", "BTA")}
    looks = styles(points)
    for model, cohorts in points.items():
        _point(axes, model, cohorts, reach, looks[model])
    axes.plot(0, 0, marker="+", markersize=12, color=INK, linestyle="", label="oracle", markeredgewidth=2)
    for cohort, (low, high) in reach.items():
        margin = 0.08 * (high - low)
        (axes.set_xlim if cohort == "KTA" else axes.set_ylim)(low - margin, high + margin)
    tidy(axes, "forget gap: KTA − oracle's KTA [dB]", "retain gap: BTA − oracle's BTA [dB]")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    save_figure(figure, stem, (".svg", ".png"))
    return True


def _span(row: Band) -> tuple[float, float]:
    return row.low - row.mean, row.high - row.low


def _reach(values: Sequence[float]) -> tuple[float, float]:
    """What the axis shows: all values, but those far beyond the typical one."""
    limit = FAR * max(float(np.median(np.abs(values))), 0.1)
    shown = [value for value in values if abs(value) <= limit]
    low, high = min(*shown, 0.0, 0.0), max(*shown, 0.0, 0.0)
    pad = 0.1 * max(high - low, 0.1)
    return low - pad, high + pad


def _spread(row: Gap) -> list[list[float]] | None:
    """The lengths of an error bar below and above the difference, or None without an interval."""
    if row.low is None or row.high is None:
        return None
    return [[max(0.0, row.difference - row.low)], [max(0.0, row.high - row.difference)]]


def _point(axes: Axes, model: str, cohorts: Mapping[str, Gap], reach: Mapping, look: tuple[str, str]) -> None:
    (x, y), (colour, marker) = (cohorts[c].difference for c in ("KTA", "BTA")), look
    (x_low, x_high), (y_low, y_high) = reach["KTA"], reach["BTA"]
    at = min(max(x, x_low), x_high), min(max(y, y_low), y_high)
    away = at != (x, y)
    label = f"{model} (at {x:+.1f}, {y:+.1f})" if away else model
    if not away:
        bars = _spread(cohorts["KTA"]), _spread(cohorts["BTA"])
        axes.errorbar(*at, xerr=bars[0], yerr=bars[1], color=colour, linewidth=1, alpha=0.6)
    face = "white" if away else REFERENCE_COLOURS.get(model, colour)
    style: Any = {"marker": marker, "markersize": 8, "color": colour, "markerfacecolor": face, "linestyle": ""}
    axes.plot(*at, label=label, clip_on=False, **style)
