"""What a study leaves for its readers: tables, figures, and one HTML file with everything in it."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup

from scripts.data import Undersample
from scripts.evaluation.comparison import load_models
from scripts.evaluation.figures import Example, unlearning_panels
from scripts.evaluation.html import template
from scripts.evaluation.reconstruct import Models, reconstruct
from scripts.evaluation.results import ZERO_FILLED
from scripts.kspace.masks import ColumnMask
from scripts.networks import ZeroFilled
from scripts.protocol import display, quality
from scripts.protocol.contents import FIGURES, draw_charts, make_tables
from scripts.protocol.display import Shown
from scripts.protocol.results import Result, main_results, weights_path
from scripts.protocol.sources import cohort_rows, source_notes
from scripts.protocol.study import Outcome
from scripts.protocol.verdict import Verdict, verdict_sentences
from scripts.protocol.viewer import choose, viewer_data
from scripts.requests import Cohorts
from scripts.run.files import write_text

TEMPLATES = Path(__file__).parent / "templates"
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
        groups = main_results(outcome.results, outcome.main_fractions)
        found = make_tables(outcome, groups, self.seed)
        for name, shown in found.items():
            display.write_shown(shown, self.output_dir / "tables" / name)
        models = self._models(groups)
        drawn = draw_charts(found, self.output_dir / "figures")
        if self._panels(models, found["verdict"].rows):
            drawn = ["panels", *drawn]
        sentences = verdict_sentences(found["verdict"].rows, found["quality"].rows, outcome.failed)
        self._page(outcome, found, drawn, self._viewer(models, groups), sentences)
        logger.info("report in %s", self.output_dir / "report.html")
        for sentence in sentences:
            logger.info(sentence)
        if outcome.failed:
            raise RuntimeError(
                f"{outcome.failed} of {len(outcome.cells)} cells did not finish; {self.output_dir}/report.html names "
                "them and why; the same command tries them again"
            )

    def _models(self, groups: quality.Groups) -> Models:
        """The first seed of every model at its main retain fraction, behind the zero-filled image."""
        if not groups:
            return {}
        root = self.output_dir / "cells"
        first = {model: results[0] for model, results in groups.items()}
        weights = {model: weights_path(result.cell, result.record, root) for model, result in first.items()}
        return {ZERO_FILLED: ZeroFilled(), **load_models(self.network, weights)}

    def _panels(self, models: Models, verdict: Sequence[Verdict]) -> bool:
        """Target, G, the unlearned model closest to the oracle, and the oracle, with error maps, of two slices."""
        names = ["G", *(row.model for row in verdict[:1]), "oracle"]
        if any(name not in models for name in names):
            return False
        shown = {name: models[name] for name in names}
        transform = Undersample(self.mask, seed=0)
        first = [(c, volumes[0]) for c, volumes in self.data.evaluation().items() if c in ("BTA", "KTA")]
        scans = [reconstruct(shown, c, v, [v.num_slices // 2], transform, self.device) for c, v in first]
        for suffix in (".svg", ".png"):
            unlearning_panels([Example.of(scan) for scan in scans], self.output_dir / f"figures/panels{suffix}")
        return True

    def _viewer(self, models: Models, groups: quality.Groups) -> dict[str, Any] | None:
        if not models:
            return None
        psnr = {model: _volume_psnr(results[0]) for model, results in groups.items()}
        scan_of = partial(reconstruct, models, transform=Undersample(self.mask, seed=0), device=self.device)
        return viewer_data(choose(self.data.evaluation()), scan_of, psnr, self.viewer_megabytes)

    def _page(
        self,
        outcome: Outcome,
        found: Mapping[str, Shown],
        drawn: Sequence[str],
        viewer: Mapping[str, Any] | None,
        sentences: Sequence[str],
    ) -> None:
        """Write ``report.html``: no file and no network address is needed to read it."""
        folder = self.output_dir / "figures"
        text = template("report.html.j2", TEMPLATES).render(
            request=self.data.request,
            cohorts=cohort_rows(self.data),
            source_notes=source_notes(self.data),
            facts=_facts(outcome, self.data.datalist),
            tables={name: shown.table for name, shown in found.items()},
            records={name: shown.records for name, shown in found.items()},
            runs=found["cells"].rows,
            figures=[(name, *FIGURES[name], _inline_svg(folder / f"{name}.svg")) for name in drawn],
            viewer=None if viewer is None else _json(viewer),
            left_out=viewer["left_out"] if viewer else 0,
            sentences=sentences,
            failed=outcome.failed,
            audit=None if self.audit_section is None else Markup(self.audit_section),
            css=_inline("report.css"),
            script=_inline("viewer.js"),
        )
        write_text(self.output_dir / "report.html", text)


def _volume_psnr(result: Result) -> dict[str, float]:
    return {row.volume: round(row.psnr, 2) for row in result.rows}


def _facts(outcome: Outcome, datalist: str) -> dict[str, str]:
    training = [cell for cell in outcome.cells if not cell.method]
    unlearning = [cell for cell in outcome.cells if cell.method]
    settings = {**training[0].settings.get("train", {}), **unlearning[0].settings["unlearn"]}
    facts = {
        "network": _component(settings.get("network")),
        "undersampling": _component(settings.get("mask")),
        "epochs of training": settings.get("train_epochs"),
        "epochs of unlearning": settings.get("unlearn_epochs"),
        "oracles": sum(cell.role == "oracle" for cell in training),
        "seeds of unlearning": ", ".join(str(s) for s in dict.fromkeys(cell.seed for cell in unlearning)),
        "datalist": datalist,
        "runs": len(outcome.cells),
    }
    return {key: str(value) for key, value in facts.items() if value is not None}


def _component(settings: Mapping[str, Any] | None) -> str | None:
    """``VarNet, 12 cascades`` from a config's component."""
    if not isinstance(settings, Mapping):
        return None
    name = str(settings.get("_target_", "")).rpartition(".")[2]
    return ", ".join([name, *(f"{key.replace('_', ' ')} {value}" for key, value in settings.items() if key[0] != "_")])


def _inline(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _inline_svg(path: Path) -> str:
    """An SVG as data URI: shown as an image, its ids cannot clash with another figure's."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _json(data: Mapping[str, Any]) -> Markup:
    """JSON that cannot end the script element it stands in."""
    return Markup(json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c"))
