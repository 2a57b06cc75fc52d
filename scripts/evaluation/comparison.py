"""Several models on the same volumes: per-volume results, the table and a picture."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import ignite.distributed as idist
import torch
from monai.engines import SupervisedEvaluator

from scripts.data.volumes import Volume
from scripts.evaluation.figures import Example, unlearning_panels
from scripts.evaluation.reconstruct import Models, reconstruct
from scripts.evaluation.results import ZERO_FILLED, Summary, VolumeResult, cohort_words, summarise, write_results
from scripts.evaluation.table import markdown, markdown_text, model_table, plain
from scripts.evaluation.volume_metrics import VolumeMetrics
from scripts.networks import ZeroFilled, check_fit, load_weights
from scripts.run.files import write_text

logger = logging.getLogger(__name__)


def load_models(
    network: torch.nn.Module, weights: str | Path | Mapping[str, str | Path | bool | None], none: bool = False
) -> dict[str, torch.nn.Module]:
    """Copies of a network, one for each file of weights.

    Args:
        network: Gives the architecture; it is left as it is.
        weights: Model name -> file, None and False are passed over; or one file, named by its stem.
        none: Whether there may be no file at all.

    Raises:
        FileNotFoundError, ValueError: weights that are missing or do not fit; nothing to load.
    """
    if isinstance(weights, (str, Path)):
        weights = {Path(weights).stem: weights}
    models = {name: load_weights(copy.deepcopy(network), str(path)) for name, path in weights.items() if path}
    if not models and not none:
        raise ValueError("evaluation: 'weights': expected at least one file of weights, found none")
    if ZERO_FILLED in models:
        raise ValueError(f"evaluation: 'weights': expected another name than {ZERO_FILLED!r}, that of no network")
    return models


def check_models(network: torch.nn.Module, *weights: str | Path | bool | None) -> None:
    """Refuse files of weights that do not fit a network, or are no finite numbers; None and False are passed over.

    Raises:
        FileNotFoundError, ValueError: See :func:`scripts.networks.check_fit`.
    """
    for path in weights:
        if path:
            check_fit(network, str(path))


def oracle_beside(weights: str | Path | Literal[False] | None, retain: Sequence[Volume]) -> str | None:
    """``oracle.pt`` in the folder of the original weights, where ``train`` puts it, or None.

    One that was made for another request is no oracle for this one: it is left where its record says that it was
    trained on other scans than those that stay. Without a record it is taken; an audit gives it no weight then.

    Args:
        weights: The original weights; None and False: there are none.
        retain: The training volumes that stay.
    """
    if not weights:
        return None
    oracle = Path(weights).with_name("oracle.pt")
    record = oracle.with_suffix(".json")
    if not oracle.is_file():
        return None
    if record.is_file():
        roles = json.loads(record.read_text(encoding="utf-8")).get("data", {})
        read = {entry["volume"] for role, part in roles.items() if role != "forget" for entry in part["volumes"]}
        if read != {volume.name for volume in retain}:
            logger.info("%s: not used, made for another request: trained on other scans than those that stay", oracle)
            return None
    return str(oracle)


class Comparison:
    """Runs one evaluator over several models, the zero-filled image first, and reports how they compare.

    Args:
        evaluator: MONAI's evaluator over the slices of all cohorts, run with ``decollate=False``.
        metrics: The evaluator's per-volume metrics.
        cohorts: Cohort name -> volumes; a volume may be in one cohort only.
        models: name -> network, ready to use.
        output_dir: Where ``metrics.csv`` (one line a model and volume), ``metrics.json`` (mean ± std),
            ``table.md`` and ``panels.png`` go.
        figure: Whether to draw ``panels.png``, one retain and one forget slice.
    """

    def __init__(
        self,
        evaluator: SupervisedEvaluator,
        metrics: VolumeMetrics,
        cohorts: Mapping[str, Sequence[Volume]],
        models: Models,
        output_dir: str | Path,
        figure: bool = True,
    ) -> None:
        self.evaluator = evaluator
        self.metrics = metrics
        self.cohort_of = {volume.name: cohort for cohort, volumes in cohorts.items() for volume in volumes}
        self.cohorts = cohorts
        self.models = {ZERO_FILLED: ZeroFilled(), **models}
        self.output_dir = Path(output_dir)
        self.figure = figure

    @property
    def transform(self) -> Callable[[dict], dict]:
        """How the evaluator's data set undersamples a slice."""
        loader: Any = self.evaluator.data_loader
        return loader.dataset.transform

    @property
    def device(self) -> torch.device:
        """Where the evaluator runs the networks."""
        return torch.device(self.evaluator.state.device or "cpu")

    def run(self) -> Summary:
        """Evaluate every model, write the files and log the table; return the summary of :func:`summarise`.

        Several processes evaluate their slices each; the first one writes.
        """
        results = [result for name, network in self.models.items() for result in self._evaluate(name, network)]
        summary = summarise(results)
        self._report(results, summary)
        return summary

    @idist.one_rank_only()
    def _report(self, results: Sequence[VolumeResult], summary: Summary) -> None:
        anatomies: dict[str, set[str]] = {}
        for result in results:
            anatomies.setdefault(result.cohort, set()).add(result.anatomy)
        table = model_table(summary, words=cohort_words(anatomies))
        write_results(results, self.output_dir / "metrics.csv")
        write_text(self.output_dir / "metrics.json", json.dumps(summary, indent=2) + "\n")
        write_text(self.output_dir / "table.md", f"{markdown(table)}\n\n{markdown_text(table.note)}\n")
        if self.figure:
            unlearning_panels(self._examples(), self.output_dir / "panels.png")
        logger.info("\n%s\n\n%s", plain(table), table.note)

    def _evaluate(self, name: str, network: torch.nn.Module) -> list[VolumeResult]:
        logger.debug("evaluating %s", name)
        self.evaluator.network = network.to(self.device)
        self.evaluator.run()
        return [
            VolumeResult(name, self.cohort_of[volume], volume, **asdict(values))
            for volume, values in self.metrics.compute().items()
        ]

    def _examples(self) -> list[Example]:
        """The middle slice of the first volume of the first two cohorts."""
        first = [(cohort, volumes[0]) for cohort, volumes in list(self.cohorts.items())[:2]]
        scans = [reconstruct(self.models, c, v, [v.num_slices // 2], self.transform, self.device) for c, v in first]
        return [Example.of(scan, which=f"scan 1 of {len(self.cohorts[scan.cohort])}") for scan in scans]
