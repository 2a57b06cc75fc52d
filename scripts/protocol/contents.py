"""The tables and figures of a study's report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scripts.protocol import display, effort, quality
from scripts.protocol.curves import dynamics_curves, fraction_curves, frontier_curves
from scripts.protocol.display import Shown
from scripts.protocol.frontier import frontier_rows
from scripts.protocol.study import Outcome
from scripts.protocol.summary_figures import pareto, radar
from scripts.protocol.verdict import verdict_rows

FIGURES = {
    "panels": (
        "Reconstructions and their errors",
        "Upper rows: target and reconstructions of one slice, on one grey scale. Lower rows: error maps on one common "
        "scale. Shown are the original G, the unlearned model closest to the oracle, and the oracle.",
    ),
    "radar": (
        "Quality and efficiency of each method",
        "A method is good where its quality axes meet the oracle's (dashed) and its RTE axis reaches far out.",
    ),
    "pareto": (
        "What is kept against what is forgotten",
        "Differences of mean PSNR to the oracle, which lies at the origin, with 95 % intervals over patients; the grey "
        "box spans the oracle's own seeds. Right: still known. Left: worse than never seen. Open markers lie outside.",
    ),
    "retain_fraction": (
        "How much retained data is needed",
        "Mean over seeds, bars: their standard deviation. Lines: second-degree fit over the logarithm of the retain "
        "fraction; the star marks its optimum.",
    ),
    "frontier": (
        "What forgetting costs and what it leaves",
        "Differences of mean PSNR to the oracle over the share of training's backward passes that unlearning may "
        "spend, mean over seeds. At the right the larger distance of KTA and UA, after training went on with the "
        "retain set alone where the study measured that: what was suppressed comes back there.",
    ),
    "dynamics": (
        "Quality over the epochs of unlearning",
        "Mean PSNR after each epoch, first seed. Epoch 0 is the original. Dashed: the oracle; shaded: its seeds.",
    ),
}


def make_tables(outcome: Outcome, groups: quality.Groups, seed: int) -> dict[str, Shown]:
    """All tables, by file name; ``seed`` is that of the bootstrap."""
    qualities, gaps, costs = quality.quality_rows(groups), quality.gap_rows(groups, seed), effort.cost_rows(groups)
    original = next(iter(groups.get("G", [])), None)
    epochs = effort.epoch_rows(outcome.results, original) if original else []
    fractions = effort.fraction_rows(outcome.results, outcome.fraction_methods)
    return {
        "verdict": display.show_verdict(verdict_rows(qualities, gaps, costs)),
        "quality": display.show_quality(qualities),
        "gaps": display.show_gaps(gaps),
        "knowledge_gap": display.show_knowledge(quality.knowledge_rows(groups)),
        "efficiency": display.show_costs(costs),
        "oracle_band": display.show_band(quality.band_rows(groups)),
        "retain_fraction": display.show("Retain fraction", fractions),
        "retain_fraction_fit": display.show("Second-degree fits", effort.fits(fractions), display.FITS),
        "frontier": display.show_frontier(frontier_rows(outcome.results)),
        "dynamics": display.show("Epochs of unlearning", epochs, "Epoch 0 is the original."),
        "cells": display.show("Runs", effort.cell_rows(outcome.cells, outcome.records)),
    }


def draw_charts(found: Mapping[str, Shown], folder: Path) -> list[str]:
    """Draw what there are data for; return the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("quality", "gaps", "efficiency", "oracle_band", "retain_fraction", "retain_fraction_fit", "dynamics")
    qualities, gaps, costs, band, fractions, fits, epochs = (found[name].rows for name in names)
    order = list(dict.fromkeys(row.model for row in gaps))
    drawn = {
        "radar": radar(qualities, costs, folder / "radar"),
        "pareto": pareto(gaps, band, folder / "pareto"),
        "retain_fraction": fraction_curves(fractions, fits, folder / "retain_fraction", order),
        "frontier": frontier_curves(found["frontier"].rows, folder / "frontier", order),
        "dynamics": dynamics_curves(epochs, band, folder / "dynamics"),
    }
    return [name for name, done in drawn.items() if done]
