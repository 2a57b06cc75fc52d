"""Everything a study leaves for its readers: tables, figures, the report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scripts.evaluation.figures import Example, unlearning_panels
from scripts.evaluation.metrics import METRICS
from scripts.protocol import tables, writing
from scripts.protocol.cells import FINISHED
from scripts.protocol.curves import dynamics_curves, fraction_curves
from scripts.protocol.images import Reconstructor, Scan
from scripts.protocol.plan import Cell
from scripts.protocol.report import write_report
from scripts.protocol.results import Result, Row, main_results
from scripts.protocol.summary_figures import pareto, radar
from scripts.protocol.verdict import verdict_sentences, verdict_table
from scripts.protocol.viewer import choose, viewer_data

if TYPE_CHECKING:
    from scripts.protocol.study import Study

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """Rows with all digits, the form to read, and what they say."""

    title: str
    rows: Sequence[Row]
    readable: Sequence[Mapping[str, str]]
    legend: str = ""


def publish(study: Study, cells: Sequence[Cell], records: Mapping[str, Mapping], results: Sequence[Result]) -> None:
    """Write ``tables/``, ``figures/`` and ``report.html`` into the study's folder."""
    threads = torch.get_num_threads()
    torch.set_num_threads(study.around.threads)
    try:
        groups = main_results(results, study.main_fraction)
        found = make_tables(study, cells, records, results, groups)
        for name, table in found.items():
            writing.write_table(table.rows, study.output_dir / "tables" / name, table.readable)
        reconstruct = _reconstructor(study, groups)
        drawn = draw_figures(study, results, found, reconstruct)
        viewer = None
        if reconstruct is not None:
            psnr = {model: _volume_psnr(group) for model, group in groups.items()}
            viewer = viewer_data(choose(study.data.evaluation()), reconstruct, psnr, study.viewer_megabytes)
        failed = sum(record["status"] != FINISHED for record in records.values())
        sentences = verdict_sentences(found["verdict"].rows, found["quality"].rows, failed)
        write_report(study, found, drawn, viewer, sentences, failed)
    finally:
        torch.set_num_threads(threads)
    logger.info("report in %s", study.output_dir / "report.html")
    for sentence in sentences:
        logger.info(sentence)


def make_tables(study: Study, cells, records, results: Sequence[Result], groups) -> dict[str, Table]:
    """All tables, by file name."""
    quality, gaps = tables.quality_table(groups), tables.gap_table(groups, study.seed)
    efficiency, band = tables.efficiency_table(groups), tables.oracle_band(groups)
    original = next(iter(groups.get("G", [])), None)
    dynamics = tables.dynamics_table(results, original) if original else []
    fractions = tables.fraction_table(results, study.fraction_methods)
    fits = [
        {"model": model, "quantity": quantity, **vars(fit)}
        for model, entry in tables.fraction_fits(fractions).items()
        for quantity, fit in entry.items()
    ]
    verdict = verdict_table(quality, gaps, efficiency)
    knowledge, listed = tables.knowledge_gap_table(groups), tables.cell_table(cells, records)
    return {
        "verdict": Table("Closeness to the oracle", verdict, _readable_verdict(verdict), VERDICT_LEGEND),
        "quality": Table("Image quality", quality, writing.readable_quality(quality), QUALITY_LEGEND),
        "gaps": Table("Difference to the oracle", gaps, writing.readable_gaps(gaps), GAP_LEGEND),
        "knowledge_gap": Table("Knowledge gap", knowledge, writing.readable_knowledge(knowledge), KNOWLEDGE_LEGEND),
        "efficiency": Table("Run-time efficiency", efficiency, writing.readable_efficiency(efficiency), COST_LEGEND),
        "oracle_band": Table("The oracle's seeds", band, writing.readable_band(band), BAND_LEGEND),
        "retain_fraction": Table("Retain fraction", fractions, writing.readable(fractions)),
        "retain_fraction_fit": Table("Second-degree fits", fits, writing.readable(fits), FIT_LEGEND),
        "dynamics": Table("Epochs of unlearning", dynamics, writing.readable(dynamics), "Epoch 0 is the original."),
        "cells": Table("Runs", listed, writing.readable(listed)),
    }


def draw_figures(study: Study, results, found: Mapping[str, Table], reconstruct) -> list[str]:
    """Draw what there are data for; return the names of the files under ``figures``."""
    folder = study.output_dir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    quality, gaps, efficiency, band, fractions, dynamics = (
        found[n].rows for n in ("quality", "gaps", "efficiency", "oracle_band", "retain_fraction", "dynamics")
    )
    fits = tables.fraction_fits(fractions)
    order = list(dict.fromkeys(row["model"] for row in gaps))
    drawn = {
        "panels": reconstruct is not None and _panels(study, found["verdict"].rows, reconstruct, folder / "panels"),
        "radar": radar(quality, efficiency, folder / "radar"),
        "pareto": pareto(gaps, band, folder / "pareto"),
        "retain_fraction": fraction_curves(fractions, fits, folder / "retain_fraction", order),
        "dynamics": dynamics_curves(dynamics, band, folder / "dynamics"),
    }
    return [name for name, done in drawn.items() if done]


def _reconstructor(study: Study, groups: Mapping[str, Sequence[Result]]) -> Reconstructor | None:
    """The first seed of every model at its main retain fraction."""
    weights = {}
    for model, group in groups.items():
        result = group[0]
        own = study.around.root / result.cell.name / result.record["weights"]["path"]
        weights[model] = result.cell.given or str(own)
    return Reconstructor(study.network, weights, study.mask, study.devices[0]) if weights else None


def _panels(study: Study, verdict: Sequence[Row], reconstruct: Reconstructor, stem: Path) -> bool:
    """Target, G, the unlearned model closest to the oracle, and the oracle, with error maps, of two slices."""
    shown = ["G", *(row["model"] for row in verdict[:1]), "oracle"]
    if any(model not in reconstruct.models for model in shown):
        return False
    examples = []
    for cohort, volumes in study.data.evaluation().items():
        if cohort in ("BTA", "KTA"):
            scan: Scan = reconstruct(cohort, volumes[0], [volumes[0].num_slices // 2])
            examples.append(
                Example(
                    title=f"{cohort}: {volumes[0].name}, slice {scan.slices[0]}",
                    target=scan.target[0],
                    max_value=volumes[0].max_value,
                    images={model: scan.images[model][0] for model in shown},
                )
            )
    for suffix in (".svg", ".png"):
        unlearning_panels(examples, stem.with_suffix(suffix))
    return True


def _volume_psnr(group: Sequence[Result]) -> dict[str, float]:
    return {row["volume"]: round(row[METRICS[0]], 2) for row in group[0].rows}


def _readable_verdict(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "model": row["model"],
            "largest difference [dB]": f"{writing.number(row['largest_gap'], 'psnr', signed=True)} in {row['in']}",
            "retain gap [dB]": writing.number(row["retain_gap"], "psnr", signed=True),
            "knowledge gap closed": writing.percent(row["gap_closed"]),
            "cohorts within the oracle's band": f"{row['cohorts_within_band']} of 3",
            "passes / training": writing.percent(row["passes_share"]),
        }
        for row in rows
    ]


VERDICT_LEGEND = (
    "Closest first. Largest difference: of mean PSNR to the oracle, over BTA, KTA and UA. Knowledge gap closed: "
    "100 % is the oracle, 0 % the original; above 100 % the model is worse than one that never saw such data."
)
QUALITY_LEGEND = (
    "BTA = retain test set, KTA = forget test set, UA = forget training data. Values are averaged over seeds, then "
    "mean ± sample standard deviation over volumes; in brackets the standard deviation of the seeds' means."
)
GAP_LEGEND = (
    "Paired over volumes, model minus oracle, with a 95 % interval by bootstrap over patients. • = the mean lies "
    "between the oracle's own lowest and highest seed."
)
KNOWLEDGE_LEGEND = "What the forget cohort taught: G knows both cohorts, the oracle the retain cohort alone."
COST_LEGEND = (
    "Slices forward and backward through the network during training or unlearning, and its wall time, which other "
    "work on the machine lengthens; as shares of training the oracle."
)
BAND_LEGEND = "How far two oracles differ that were trained alike but for the seed."
FIT_LEGEND = "a·u² + b·u + c with u = log10(retain fraction), by least squares; optimum within the measured range."
