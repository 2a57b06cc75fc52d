"""What a study leaves for its readers: tables, figures, and one HTML file with everything in it."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup

from scripts.data import Undersample, Volume
from scripts.evaluation.comparison import load_models
from scripts.evaluation.drawing import data_uri
from scripts.evaluation.figures import Example, unlearning_panels
from scripts.evaluation.reconstruct import Models, reconstruct
from scripts.evaluation.results import COHORTS, ZERO_FILLED, cohort_words
from scripts.evaluation.table import template
from scripts.kspace.masks import ColumnMask
from scripts.networks import ZeroFilled
from scripts.protocol import effort, ranking, tables
from scripts.protocol.effort import Fit
from scripts.protocol.figures import CAPTIONS, draw_charts
from scripts.protocol.plan import ORACLE, ORIGINAL
from scripts.protocol.results import DELIVERED, NAMES, Results
from scripts.protocol.study import Outcome
from scripts.protocol.tables import Shown
from scripts.protocol.viewer import choose, viewer_data
from scripts.requests import Cohorts
from scripts.run.files import write_text

TEMPLATES = Path(__file__).parent / "templates"
SOURCES = {
    "phantom": "Synthetic phantoms: drawn anatomy, simulated coils and noise. They show that the methods work as "
    "described; they say nothing about patients.",
    "semi-synthetic": "Semi-synthetic data: real magnitude images with simulated coils, phase and noise. Contrast and "
    "anatomy are real, the raw data are not.",
    "": "Data without a stated source, taken as measured raw data.",
}
logger = logging.getLogger(__name__)


class Report:
    """Writes ``tables/``, ``figures/`` and ``report.html`` into a study's folder.

    Args:
        output_dir: The study's folder.
        data: The volumes that the study used.
        network: The architecture of all models; its weights are not used.
        mask: The undersampling pattern.
        seed: The seed of the bootstrap.
        device: Where to reconstruct the images that are shown.
        viewer_megabytes: Upper bound of the images in the slice viewer.
        audit_section: HTML of an audit to show; None: none.
    """

    def __init__(
        self,
        output_dir: str | Path,
        data: Cohorts,
        network: torch.nn.Module,
        mask: ColumnMask,
        seed: int = 0,
        device: str = "cpu",
        viewer_megabytes: float = 8.0,
        audit_section: str | None = None,
    ) -> None:
        self.output_dir, self.data = Path(output_dir), data
        self.network, self.mask, self.device = network, mask, device
        self.seed, self.viewer_megabytes, self.audit_section = seed, viewer_megabytes, audit_section

    def write(self, outcome: Outcome) -> None:
        """Write everything that the finished cells allow.

        Args:
            outcome: What the study found, see :meth:`scripts.protocol.Study.run`.

        Raises:
            RuntimeError: Cells failed; after everything was written.
        """
        evaluated = self.data.evaluation().items()
        words = cohort_words({cohort: [v.fields.get("anatomy", "") for v in volumes] for cohort, volumes in evaluated})
        main = outcome.results.at(outcome.main_fractions)
        found, fits = make_tables(outcome, main, words, self.seed)
        for name, shown in found.items():
            shown.write(self.output_dir / "tables" / name)
        models = self._models(main)
        drawn = draw_charts(found, fits, self.output_dir / "figures", words)
        if self._panels(models, list(found["ranking"].rows.model[:1])):
            drawn = ["panels", *drawn]
        sentences = ranking.sentences(found["ranking"].rows, found["quality"].rows, outcome.failed)
        self._page(outcome, found, drawn, self._viewer(models, main, words), sentences, words)
        logger.info("report in %s", self.output_dir / "report.html")
        for sentence in sentences:
            logger.info(sentence)
        if outcome.failed:
            raise RuntimeError(
                f"{outcome.failed} of {len(outcome.cells)} cells did not finish; {self.output_dir}/report.html names "
                "them and why; the same command tries them again"
            )

    def _models(self, main: Results) -> Models:
        """The first seed of every model at its main retain fraction, behind the zero-filled image."""
        if main.runs.empty:
            return {}
        weights = dict(main.runs.groupby("model", sort=False).weights.first())
        return {ZERO_FILLED: ZeroFilled(), **load_models(self.network, weights)}

    def _panels(self, models: Models, best: Sequence[str]) -> bool:
        """Target, original, the best unlearned network, and the one that never saw the scans, of two slices."""
        names = [NAMES[ORIGINAL], *best, NAMES[ORACLE]]
        if any(name not in models for name in names):
            return False
        shown = {name: models[name] for name in names}
        transform = Undersample(self.mask, seed=0)
        first = [(c, volumes[0]) for c, volumes in self.data.evaluation().items() if c in ("BTA", "KTA")]
        scans = [reconstruct(shown, c, v, [v.num_slices // 2], transform, self.device) for c, v in first]
        for suffix in (".svg", ".png"):
            unlearning_panels([Example.of(scan) for scan in scans], self.output_dir / f"figures/panels{suffix}")
        return True

    def _viewer(self, models: Models, main: Results, words: Mapping[str, str]) -> dict[str, Any] | None:
        if not models:
            return None
        scores = main.scores[(main.scores.state == DELIVERED) & (main.scores.metric == "psnr")]
        first = scores.drop_duplicates(["model", "volume"])
        psnr = {model: dict(zip(own.volume, own.value.round(2), strict=True)) for model, own in first.groupby("model")}
        scan_of = partial(reconstruct, models, transform=Undersample(self.mask, seed=0), device=self.device)
        chosen = [(words[cohort], volume) for cohort, volume in choose(self.data.evaluation())]
        shown = viewer_data(chosen, scan_of, psnr, self.viewer_megabytes)
        first = [NAMES[role] if NAMES[role] in models else shown["models"][-1] for role in (ORIGINAL, ORACLE)]
        return {**shown, "first": first}

    def _page(
        self,
        outcome: Outcome,
        found: Mapping[str, Shown],
        drawn: Sequence[str],
        viewer: Mapping[str, Any] | None,
        sentences: Sequence[str],
        words: Mapping[str, str],
    ) -> None:
        """Write ``report.html``: no file and no network address is needed to read it."""
        folder = self.output_dir / "figures"
        text = template("report.html.j2", TEMPLATES).render(
            request=self.data.request,
            cohorts=cohort_rows(self.data, words),
            source_notes=source_notes(self.data),
            glossary=[(words[cohort], meaning, cohort) for cohort, meaning in COHORTS.items()],
            facts=_facts(outcome, self.data.datalist),
            tables={name: shown.table for name, shown in found.items()},
            records={name: shown.records for name, shown in found.items()},
            runs=found["cells"].rows.to_dict("records"),
            figures=[(name, *CAPTIONS[name], _inline_svg(folder / f"{name}.svg")) for name in drawn],
            viewer=None if viewer is None else Markup(json.dumps(viewer).replace("<", "\\u003c")),  # ends no element
            left_out=viewer["left_out"] if viewer else 0,
            sentences=sentences,
            failed=outcome.failed,
            audit=None if self.audit_section is None else Markup(self.audit_section),
            css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
            script=Markup((TEMPLATES / "viewer.js").read_text(encoding="utf-8")),
        )
        write_text(self.output_dir / "report.html", text)


def make_tables(
    outcome: Outcome, main: Results, words: Mapping[str, str], seed: int
) -> tuple[dict[str, Shown], dict[tuple[str, str], Fit]]:
    """All tables, by file name, and the fits over the retain fraction; ``seed`` is that of the bootstrap."""
    qualities, costs, seeds = tables.quality(main, words), effort.costs(main), tables.band(main, words)
    fractions = effort.fractions(outcome.results, outcome.fraction_methods, words)
    fits = effort.fits(fractions.rows)
    found = {
        "ranking": ranking.ranking(main, qualities.rows, costs.rows, words),
        "quality": qualities,
        "gaps": tables.gaps(main, seeds.rows, words, seed),
        "knowledge_gap": tables.knowledge(qualities.rows, words),
        "efficiency": costs,
        "seeds": seeds,
        "retain_fraction": fractions,
        "retain_fraction_fit": effort.fit_rows(fits, words),
        "frontier": effort.frontier(outcome.results, words),
        "cells": tables.runs(outcome.cells, outcome.records),
    }
    return found, fits


def cohort_rows(data: Cohorts, words: Mapping[str, str]) -> list[dict[str, Any]]:
    """Volumes, slices and patients of each part of the data."""
    test = {forget: [volume for volume in data.test if volume.forget == forget] for forget in (False, True)}
    parts = {"training scans that stay": data.retain, words["UA"]: data.forget}
    parts |= {f"{words['BTA']}, test": test[False], f"{words['KTA']}, test": test[True]}
    return [
        {
            "part": part,
            "volumes": len(volumes),
            "slices": sum(volume.num_slices for volume in volumes),
            "patients": len({volume.patient_id or volume.name for volume in volumes}),
            "source": ", ".join(sorted({volume.fields.get("source", "") or "not stated" for volume in volumes})),
        }
        for part, volumes in parts.items()
    ]


def source_notes(data: Cohorts) -> list[str]:
    """What kind of data this is, read from the files, and whether test and training share subjects."""
    volumes = [volume for section in data.sections.values() for volume in section]
    counts = Counter(volume.fields.get("source", "") for volume in volumes)
    notes = [
        f"{SOURCES.get(source, f'Source: {source}.')} ({n} of {len(volumes)} volumes)" for source, n in counts.items()
    ]
    shared = {_subject(volume) for volume in data.sections["training"]} & {_subject(volume) for volume in data.test}
    if shared := shared - {""}:
        between = slices_between(data.sections["training"], data.test)
        apart = "in slices that the files do not state"
        if between is not None:
            apart = f"in disjoint slices with at least {between} others between them"
            apart = apart if between >= 0 else "IN THE SAME SLICES"
        notes.append(
            f"{len(shared)} {'subject is' if len(shared) == 1 else 'subjects are'} both in training and in test, "
            f"{apart}: results on the test sets are not those on new subjects, and intervals over patients are too "
            "narrow."
        )
    return notes


def slices_between(training: Sequence[Volume], test: Sequence[Volume]) -> int | None:
    """The smallest number of slices that lie between a training and a test slice of one source image.

    Read from the attribute ``source_slices`` (``first-last``) that ``simulate`` writes; -1 where a slice is in both,
    None where a shared image does not state its slices.
    """
    smallest = None
    for one in training:
        for other in test:
            if not _subject(one) or _subject(one) != _subject(other):
                continue
            runs = [volume.fields.get("source_slices", "").split("-") for volume in (one, other)]
            if any(len(run) != 2 for run in runs):
                return None
            (first, last), (other_first, other_last) = ([int(end) for end in run] for run in runs)
            between = max(first - other_last, other_first - last, 0) - 1
            smallest = between if smallest is None else min(smallest, between)
    return smallest


def _subject(volume: Volume) -> str:
    return volume.fields.get("source_image", "") or volume.patient_id


def _facts(outcome: Outcome, datalist: str) -> dict[str, str]:
    """What was set for all cells; of a component its name and arguments, e.g. ``VarNet, num cascades 12``."""
    training = [cell for cell in outcome.cells if not cell.method]
    unlearning = [cell for cell in outcome.cells if cell.method]
    settings = {**training[0].settings.get("train", {}), **unlearning[0].settings["unlearn"]}

    def component(key: str) -> str | None:
        stated = settings.get(key)
        if not isinstance(stated, Mapping):
            return None
        name = str(stated.get("_target_", "")).rpartition(".")[2]
        return ", ".join([name, *(f"{k.replace('_', ' ')} {value}" for k, value in stated.items() if k[0] != "_")])

    facts = {
        "network": component("network"),
        "undersampling": component("mask"),
        "epochs of training": settings.get("train_epochs"),
        "epochs of unlearning": settings.get("unlearn_epochs"),
        "networks that never saw the scans": sum(cell.role == ORACLE for cell in training),
        "seeds of unlearning": ", ".join(str(s) for s in dict.fromkeys(cell.seed for cell in unlearning)),
        "datalist": datalist,
        "runs": len(outcome.cells),
    }
    return {key: str(value) for key, value in facts.items() if value is not None}


def _inline_svg(path: Path) -> str:
    """An SVG as data URI: shown as an image, its ids cannot clash with another figure's."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return data_uri(svg.encode(), "svg+xml")
