"""Resurfacing: whether what a model was made to forget comes back when it is trained on retained data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scripts.audit.continued import ContinuedTraining, Curve, against, level, rise, unmoved
from scripts.audit.inputs import training_of
from scripts.audit.measure import (
    NO_ORACLE,
    ORIGINAL,
    Given,
    Measure,
    Statistics,
    audited_and_reference,
    not_measured,
    rejecting,
    with_interval,
)
from scripts.evaluation.bootstrap import mean_with_interval
from scripts.evaluation.reconstruct import Models, spread
from scripts.evaluation.results import COHORTS, Results
from scripts.evaluation.table import DECIMALS, HEADINGS, Table, number, percent
from scripts.run.kinds import Positive, Share

METRICS = ("psnr", "ssim")
EARLY = 60  # steps: enough to reject a model, too few to accept one
LOOKING = 90  # a tenth of the slices is for looking at three cohorts at three steps, the rest for training
ACCEPTING = 0.1  # share of training's steps below which nothing is accepted


def resurfacing(model: Curve, oracle: Curve | None, statistics: Statistics, too_few: str | None = None) -> dict:
    """What came back, at the step where most did.

    Args:
        model: The audited model's results at each step of training on retained data, 0 included.
        oracle: The oracle's or the treated oracle's at the same steps; None: there is none.
        statistics: The settings of the intervals.
        too_few: Why the training was too short to accept a model; None: it was long enough.

    Returns:
        ``steps``, ``against``, and for each cohort, for PSNR (dB) and SSIM: ``before`` and ``after``, means of the
        model at the start and at the end; ``oracle_after``; ``rise``, of the model less that of the oracle trained
        alike (without an oracle: the model's alone); ``gap``, model minus oracle, both trained on. Rise and gap
        are those of the step at which their mean is largest, and name it.

    Source: after Hu et al., Unlearning or Obfuscating? Jogging the Memory of Unlearned LLMs via Benign Relearning, 2024
    (arXiv 2406.13356).
    """
    steps = sorted(model)
    found: dict = {"steps": steps[-1], "against": against(oracle)}
    if too_few is not None:
        found["too_few"] = too_few
    for cohort in model[0].cohorts:
        patients = model[0].patients(cohort)
        found[cohort] = {}
        for metric in METRICS:
            rises = {step: rise(model, oracle, step, cohort, metric) for step in steps[1:]}
            entry: dict = {
                "before": float(level(model, 0, cohort, metric).mean()),
                "after": float(level(model, steps[-1], cohort, metric).mean()),
                "oracle_after": None,
                "rise": _largest(rises, patients, statistics, too_few),
                "gap": NO_ORACLE,
            }
            if oracle is not None:
                gaps = {s: level(model, s, cohort, metric) - level(oracle, s, cohort, metric) for s in steps[1:]}
                entry["oracle_after"] = float(level(oracle, steps[-1], cohort, metric).mean())
                entry["gap"] = _largest(gaps, patients, statistics, too_few)
            found[cohort][metric] = entry
    return found


def _largest(
    values: Mapping[int, np.ndarray], patients: Sequence[str], statistics: Statistics, too_few: str | None
) -> dict:
    step = max(values, key=lambda s: values[s].mean())
    return {**rejecting(mean_with_interval(values[step], patients, **statistics.draw), too_few), "step": step}


class Resurfacing(Measure):
    """Trains the audited model and the oracle on retained data and measures both on every cohort.

    Args:
        given: The audit's data and models; the limit shortens the training where it must.
        share: The length of the training, as a share of the steps of the original's training; 0 leaves the measure
            out.
        learning_rate: Adam's.

    Raises:
        ValueError: a limit that allows no step.
    """

    name = "resurfacing"
    title = "Resurfacing: training on retained data alone"
    gates = (r"(BTA|KTA|UA|earlier)/(psnr|ssim)/(rise|gap)",)

    def __init__(self, given: Given, share: Share = 0.15, learning_rate: Positive = 1e-3) -> None:
        super().__init__(given)
        training = training_of(given.weights[ORIGINAL], given.training)
        self.training_steps = None if training is None else int(training["cost"]["steps"])
        cohorts = {**given.cohorts, "earlier": [v for volumes in given.earlier.values() for v in volumes]}
        each = given.limit // 2  # of two models
        looks = max(each // LOOKING, 1)
        self.training, self.share = ContinuedTraining(given, given.retain, learning_rate, anneal=True), share
        self.chosen = {name: spread(volumes, looks) for name, volumes in cohorts.items() if volumes}
        self.looks = sum(map(len, self.chosen.values()))
        wanted = EARLY if self.training_steps is None else max(round(share * self.training_steps), 1)
        allowed = (each - 3 * self.looks) // given.batch_size
        if share and allowed < 1:
            raise ValueError(
                f"resurfacing: 'slices_per_measure': expected slices for at least one step, found {given.limit}"
            )
        self.steps = min(wanted, allowed) if share else 0
        self.at = sorted({0, min(EARLY, self.steps), self.steps})

    @property
    def too_few(self) -> str | None:
        """Why the training is too short to accept a model, or None."""
        if self.training_steps is None:
            return f"{self.steps} steps; how many the original's training took is not known"
        if self.steps < ACCEPTING * self.training_steps:
            return f"{self.steps} steps, less than {ACCEPTING:.0%} of the {self.training_steps} of the training"
        return None

    def slices(self, models: Models) -> int:
        each = self.steps * self.training.batch_size + len(self.at) * self.looks
        return each * len(audited_and_reference(models)) if self.steps else 0

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        """See :func:`resurfacing`; ``share_of_training`` and ``learning_rate``."""
        if not self.steps:
            return not_measured("turned off (resurfacing_share: 0)")
        model, *others = [
            self.training.curve(name, models[name], self.at, self.chosen) for name in audited_and_reference(models)
        ]
        reference = others[0] if others else None
        too_few = self.too_few or unmoved(model, reference)
        found = resurfacing(model, reference, statistics, too_few)
        share = None if self.training_steps is None else self.steps / self.training_steps
        return {**found, "share_of_training": share, "learning_rate": self.training.learning_rate}

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row a cohort and metric."""
        rows = [
            [
                f"{cohort} {HEADINGS[metric]}",
                number(found["before"], DECIMALS[metric]),
                number(found["after"], DECIMALS[metric]),
                number(found["oracle_after"], DECIMALS[metric]),
                with_interval(found["rise"], DECIMALS[metric], True),
                with_interval(found["gap"], DECIMALS[metric], True),
            ]
            for cohort in (*COHORTS, "earlier")
            if cohort in entry
            for metric, found in entry[cohort].items()
        ]
        part = (
            "" if entry["share_of_training"] is None else f", {percent(entry['share_of_training'])} of the training's"
        )
        weaker = "" if entry["against"].startswith("the ") else " Without an oracle this is weaker evidence."
        note = (
            f"{entry['steps']} steps{part}. Rise: of the model, beside {entry['against']}; gap: to that oracle "
            f"afterwards; each at the step where it is largest.{weaker} {entry.get('too_few', '')}"
        ).strip()
        columns = ["measure", "before", "after", "oracle after", f"rise [{share}]", f"gap [{share}]"]
        return Table(cls.title, note, columns, rows)
