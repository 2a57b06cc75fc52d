"""Relearning: how fast a model knows again what it was made to forget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scripts.audit.continued import ContinuedTraining, Curve, against, level, model_of, rise, unmoved
from scripts.audit.measure import ORIGINAL, Measure, audited_and_reference, with_interval
from scripts.audit.statistics import NOT_MEASURED, Statistics, is_measured, not_measured, rejecting
from scripts.data.volumes import Volume
from scripts.evaluation.bootstrap import mean_with_interval
from scripts.evaluation.reconstruct import Models, spread
from scripts.evaluation.results import Results
from scripts.evaluation.table import Table, number

METRICS = ("psnr", "ssim")
ACCEPTING = 20  # steps below which a model may be rejected, but not accepted


def steps_to_reach(curve: Sequence[tuple[int, float]], goal: float) -> int | None:
    """First step at which a curve is at ``goal`` or above; None if it never is.

    >>> steps_to_reach([(0, 20.0), (10, 24.0), (20, 26.0)], goal=24.0)
    10
    """
    return next((step for step, value in curve if value >= goal), None)


def relearning_ratio(model: Sequence[tuple[int, float]], oracle: Sequence[tuple[int, float]], goal: float) -> dict:
    """Steps of the model over steps of the oracle until both know the forget domain again.

    Args:
        model: (step, PSNR in dB on the forget test set) while the audited model is trained on the forget set.
        oracle: The same for the oracle, or empty.
        goal: dB; the original's forget test PSNR less a tolerance.

    Returns:
        ``{"goal", "steps", "oracle_steps", "ratio"}``; steps None where the goal was not reached. A ratio well
        below 1: the knowledge was hidden rather than removed.

    Source: after Golatkar et al., Eternal Sunshine of the Spotless Net, CVPR 2020 (relearn time).

    >>> relearning_ratio([(0, 1.0), (5, 9.0)], [(0, 1.0), (5, 4.0), (10, 9.0)], goal=8.0)["ratio"]
    0.5
    """
    steps, reference = steps_to_reach(model, goal), steps_to_reach(oracle, goal)
    if not oracle:
        ratio: float | dict = not_measured("no oracle weights")
    elif reference == 0:
        ratio = not_measured("the oracle itself starts at the goal")
    elif steps is None or reference is None:
        ratio = not_measured("the goal was not reached within the steps allowed")
    else:
        ratio = steps / reference
    return {"goal": goal, "steps": steps, "oracle_steps": reference, "ratio": ratio}


def mean_height(values: Sequence[np.ndarray], steps: Sequence[int]) -> np.ndarray:
    """(n,) the area under each volume's curve, by the trapezoidal rule, over the number of steps.

    Args:
        values: One (n,) array a step.
        steps: The steps, ascending; a single one gives its values.

    >>> mean_height([np.array([0.0]), np.array([2.0]), np.array([2.0])], [0, 2, 4])
    array([1.5])
    """
    if len(steps) == 1:
        return np.asarray(values[0], dtype=np.float64)
    heights = np.stack(values)
    return np.diff(steps) @ (heights[1:] + heights[:-1]) / 2 / (steps[-1] - steps[0])


def relearning(
    model: Curve, oracle: Curve | None, patients: Sequence[str], goal: float, statistics: Statistics
) -> dict:
    """The relearning of a model beside the oracle's, on the forget test set.

    Args:
        model: The audited model's results at each step of training on the forget set.
        oracle: The oracle's or the treated oracle's at the same steps; None: there is none.
        patients: The patient of each volume.
        goal: PSNR in dB at which the forget domain counts as known again.
        statistics: The settings of the intervals.

    Returns:
        What :func:`relearning_ratio` says, ``curves`` of the mean PSNR, and for PSNR and SSIM: ``area``, the area
        between the model's curve and the oracle's over the number of steps (how far the model is ahead on the way, in
        the metric's unit), and ``rise``, the same after each curve's own start is taken away, which without an oracle
        is the model's rise alone. An undertrained model relearns slowly: read both beside BTA.
    """
    steps = sorted(model)
    curves = {model_of(curve): _mean_curve(curve) for curve in (model, oracle) if curve is not None}
    known = [] if oracle is None else curves[model_of(oracle)]
    short = None if steps[-1] >= ACCEPTING else f"{steps[-1]} steps, fewer than {ACCEPTING}"
    short = short or unmoved(model, oracle)
    found: dict = {**relearning_ratio(curves[model_of(model)], known, goal), "curves": curves}
    found |= {"max_steps": steps[-1], "against": against(oracle)}
    for metric in METRICS:
        rises = mean_height([rise(model, oracle, step, "KTA", metric) for step in steps], steps)
        found[metric] = {"rise": rejecting(mean_with_interval(rises, patients, **statistics.draw), short)}
        found[metric]["area"] = not_measured("no oracle weights")
        if oracle is not None:
            ahead = [level(model, step, "KTA", metric) - level(oracle, step, "KTA", metric) for step in steps]
            area = mean_with_interval(mean_height(ahead, steps), patients, **statistics.draw)
            found[metric]["area"] = rejecting(area, short)
    return found


class Relearning(Measure):
    """Trains the audited model and the oracle on the forget set and follows both on the forget test set.

    Args:
        training: On the slices of the forget training volumes.
        volumes: The forget test volumes.
        limit: The most slices that the measure may put through a network.
        max_steps: Steps of training; 0 leaves the measure out.
        every: Steps between two looks.
        tolerance: The goal is the original's PSNR times (1 - tolerance).

    Raises:
        ValueError: impossible settings.
    """

    name = "relearning"
    title = "Relearning: training on the forget set"
    gates = (r"(psnr|ssim)/(rise|area)",)

    def __init__(
        self,
        training: ContinuedTraining,
        volumes: Sequence[Volume],
        limit: int,
        max_steps: int = 40,
        every: int = 2,
        tolerance: float = 0.05,
    ) -> None:
        if max_steps < 0 or every < 1 or max_steps % every:
            raise ValueError(
                f"relearning: 'max_steps': expected 0 or a multiple of 'every', {every}, found {max_steps}"
            )
        if not 0 <= tolerance < 1:
            raise ValueError(f"relearning: 'tolerance': expected in [0, 1), found {tolerance}")
        self.training, self.tolerance = training, tolerance
        self.at = list(range(0, max_steps + 1, every))
        allowed = limit // 2 - max_steps * training.batch_size  # of each of two models, for looking at it
        if max_steps and allowed < len(self.at):
            raise ValueError(
                f"relearning: 'limit': expected at least {2 * (max_steps * training.batch_size + len(self.at))} slices "
                f"for {max_steps} steps seen every {every}, found {limit}"
            )
        self.chosen = spread(volumes, allowed // len(self.at)) if max_steps and volumes else []

    def slices(self, models: Models) -> int:
        """See :class:`scripts.audit.measure.Measure`."""
        each = self.at[-1] * self.training.batch_size + len(self.at) * len(self.chosen)
        return each * len(audited_and_reference(models)) if self.chosen else 0

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        """See :func:`relearning`."""
        if not self.at[-1]:
            return not_measured("turned off (relearning_steps: 0)")
        if not self.chosen:
            return not_measured("no volumes in KTA")
        at, cohorts = self.at, {"KTA": self.chosen}
        names = audited_and_reference(models)
        model, *others = [self.training.curve(name, models[name], at, cohorts) for name in names]
        original = self.training.curve(ORIGINAL, models[ORIGINAL], [0], cohorts)
        goal = float(level(original, 0, "KTA", "psnr").mean()) * (1 - self.tolerance)
        found = relearning(model, others[0] if others else None, model[0].patients("KTA"), goal, statistics)
        return {**found, "learning_rate": self.training.learning_rate}

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row a model."""
        shown = [step for step, _ in next(iter(entry["curves"].values()))]
        shown = [step for step in shown if step in (0, 2, 4, 8, 16, 32, shown[-1])]
        rows = []
        for model, curve in entry["curves"].items():
            steps = entry["steps"] if model == "unlearned" else entry["oracle_steps"]
            reached = f"more than {entry['max_steps']}" if steps is None else str(steps)
            rows.append([model, reached, *(number(value) for step, value in curve if step in shown)])
        ratio = entry["ratio"]
        said = f"{ratio:.2f}" if is_measured(ratio) else f"{NOT_MEASURED} ({ratio[NOT_MEASURED]})"
        structure = with_interval(entry["ssim"]["area"], 3, True)
        area, head = (with_interval(entry["psnr"][name], 2, True) for name in ("area", "rise"))
        note = (
            f"Steps until {entry['goal']:.2f} dB on KTA; ratio to the oracle: {said}. Area between the curves over the "
            f"steps [{share}]: {area} dB, {structure} in SSIM. Head start, each from its own beginning, beside "
            f"{entry['against']}: {head} dB. An undertrained model relearns slowly: read this beside BTA."
        )
        columns = ["model", "steps to the goal", *(f"KTA PSNR [dB] after {step}" for step in shown)]
        return Table(cls.title, note, columns, rows)


def _mean_curve(curve: Curve) -> list[tuple[int, float]]:
    return [(step, float(level(curve, step, "KTA", "psnr").mean())) for step in sorted(curve)]
