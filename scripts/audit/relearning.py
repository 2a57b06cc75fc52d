"""Relearning: how fast a model knows again what it was made to forget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from scipy.integrate import trapezoid

from scripts.audit.continued import ContinuedTraining, Curve, against, level, model_of, rise, unmoved
from scripts.audit.measure import (
    NO_ORACLE,
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
from scripts.evaluation.results import Results
from scripts.evaluation.table import Table, number
from scripts.run.kinds import Count, Positive, whole

METRICS = ("psnr", "ssim")
ACCEPTING = 20  # steps below which a model may be rejected, but not accepted


def relearning(model: Curve, oracle: Curve | None, patients: Sequence[str], statistics: Statistics) -> dict:
    """The relearning of a model beside the oracle's, on the forget test set.

    Args:
        model: The audited model's results at each step of training on the forget set.
        oracle: The oracle's or the treated oracle's at the same steps; None: there is none.
        patients: The patient of each volume.
        statistics: The settings of the intervals.

    Returns:
        ``curves`` of the mean PSNR, and for PSNR and SSIM: ``area``, the area between the model's curve and the
        oracle's over the number of steps (how far the model is ahead on the way, in the metric's unit), and ``rise``,
        the same after each curve's own start is taken away, which without an oracle is the model's rise alone. An
        undertrained model relearns slowly: read both beside BTA.

    Source: after Golatkar et al., Eternal Sunshine of the Spotless Net, CVPR 2020 (relearn time).
    """
    steps = sorted(model)
    short = None if steps[-1] >= ACCEPTING else f"{steps[-1]} steps, fewer than {ACCEPTING}"
    short = short or unmoved(model, oracle)

    def height(values: Sequence[np.ndarray]) -> dict:
        mean = trapezoid(np.stack(values), steps, axis=0) / (steps[-1] - steps[0])
        return rejecting(mean_with_interval(mean, patients, **statistics.draw), short)

    found: dict = {
        "curves": {
            model_of(curve): [(step, float(level(curve, step, "KTA", "psnr").mean())) for step in steps]
            for curve in (model, oracle)
            if curve is not None
        },
        "against": against(oracle),
    }
    for metric in METRICS:
        found[metric] = {"rise": height([rise(model, oracle, step, "KTA", metric) for step in steps])}
        found[metric]["area"] = NO_ORACLE
        if oracle is not None:
            ahead = [level(model, step, "KTA", metric) - level(oracle, step, "KTA", metric) for step in steps]
            found[metric]["area"] = height(ahead)
    return found


class Relearning(Measure):
    """Trains the audited model and the oracle on the forget set and follows both on the forget test set.

    Args:
        given: The audit's data and models.
        max_steps: Steps of training; 0 leaves the measure out.
        every: Steps between two looks.
        learning_rate: The optimiser's; None: that of the class.

    Raises:
        ValueError: impossible settings.
    """

    name = "relearning"
    title = "Relearning: training on the forget set"
    gates = (r"(psnr|ssim)/(rise|area)",)
    relative, rate = False, 1e-3

    def __init__(
        self,
        given: Given,
        max_steps: Annotated[int, whole(0)] = 40,
        every: Count = 2,
        learning_rate: Positive | None = None,
    ) -> None:
        super().__init__(given)
        if max_steps % every:
            raise ValueError(
                f"relearning: 'max_steps': expected 0 or a multiple of 'every', {every}, found {max_steps}"
            )
        self.training = ContinuedTraining(
            given, given.forget, learning_rate or self.rate, anneal=self.relative, relative=self.relative
        )
        self.at, volumes = list(range(0, max_steps + 1, every)), given.cohorts.get("KTA", [])
        training = max_steps * given.batch_size
        allowed = given.limit // 2 - training  # of each of two models, for looking at it
        if max_steps and allowed < len(self.at):
            least = 2 * (training + len(self.at))
            raise ValueError(
                f"relearning: 'slices_per_measure': expected at least {least} for {max_steps} steps seen "
                f"every {every}, found {given.limit}"
            )
        self.chosen = spread(volumes, allowed // len(self.at)) if max_steps and volumes else []

    def slices(self, models: Models) -> int:
        each = self.at[-1] * self.given.batch_size + len(self.at) * len(self.chosen)
        return each * len(audited_and_reference(models)) if self.chosen else 0

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        if not self.at[-1]:
            return not_measured("turned off (relearning_steps: 0)")
        if not self.chosen:
            return not_measured("no volumes in KTA")
        names = audited_and_reference(models)
        model, *others = [self.training.curve(name, models[name], self.at, {"KTA": self.chosen}) for name in names]
        found = relearning(model, others[0] if others else None, model[0].patients("KTA"), statistics)
        return {**found, "learning_rate": self.training.learning_rate}

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row a model."""
        steps = [step for step, _ in next(iter(entry["curves"].values()))]
        shown = [step for step in steps if step in (0, 2, 4, 8, 16, 32, steps[-1])]
        rows = [
            [model, *(number(value) for step, value in curve if step in shown)]
            for model, curve in entry["curves"].items()
        ]
        structure = with_interval(entry["ssim"]["area"], 3, True)
        area, head = (with_interval(entry["psnr"][name], 2, True) for name in ("area", "rise"))
        note = (
            f"Area between the curves over the steps [{share}]: {area} dB, {structure} in SSIM. Head start, each from "
            f"its own beginning, beside {entry['against']}: {head} dB. An undertrained model relearns slowly: read "
            "this beside BTA."
        )
        return Table(cls.title, note, ["model", *(f"KTA PSNR [dB] after {step}" for step in shown)], rows)


class StrongerRelearning(Relearning):
    """Relearning by an optimiser to which the layers' scales do not matter, at another rate, which falls to zero.

    Adam hardly moves what was scaled up: a network may hide from the first relearner, whose steps depend on the
    parametrisation, and not from this one.
    """

    name = "stronger_relearning"
    title = "Relearning whatever the layers' scales: training on the forget set"
    relative, rate = True, 3e-3
