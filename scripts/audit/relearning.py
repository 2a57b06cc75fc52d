"""Relearning: how fast a model knows again what it was made to forget."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer

from scripts.audit.statistics import not_measured
from scripts.data.slices import prepare_batch
from scripts.evaluation.results import Results
from scripts.evaluation.volume_metrics import MeanOverVolumes, VolumeMetrics
from scripts.networks import loss_scaling
from scripts.training import ClipGradient, FiniteLoss

logger = logging.getLogger(__name__)


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
        oracle: the same for the oracle, or empty.
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


class Relearning:
    """Trains copies of models on the forget set with MONAI's stock trainer and follows them on the forget test set.

    Args:
        forget_loader: slices of the forget training volumes.
        test_loader: slices of the forget test volumes.
        loss_function: J.
        device: where to train.
        learning_rate: of Adam.
        max_steps: the most steps taken; 0 leaves the measure out.
        every: steps between two evaluations.
        tolerance: the goal is the original's PSNR times (1 - tolerance).
        seed: every model sees the same slices and masks in the same order.

    Raises:
        ValueError: impossible settings.
    """

    def __init__(
        self,
        forget_loader: Iterable,
        test_loader: Iterable,
        loss_function: torch.nn.Module,
        device: torch.device | str,
        learning_rate: float = 1e-3,
        max_steps: int = 100,
        every: int = 10,
        tolerance: float = 0.05,
        seed: int = 0,
    ) -> None:
        if max_steps < 0 or every < 1 or max_steps % every:
            raise ValueError(
                f"relearning: 'max_steps': expected 0 or a multiple of 'every', {every}, found {max_steps}"
            )
        if not 0 <= tolerance < 1:
            raise ValueError(f"relearning: 'tolerance': expected in [0, 1), found {tolerance}")
        self.forget_loader, self.test_loader = forget_loader, test_loader
        self.loss_function = loss_function
        self.device = torch.device(device)
        self.learning_rate = learning_rate
        self.max_steps, self.every, self.tolerance, self.seed = max_steps, every, tolerance, seed

    def measure(self, models: Mapping[str, torch.nn.Module], results: Results) -> dict:
        """Relearning of the audited model and of the oracle, if there is one: see :func:`relearning_ratio`."""
        if not self.max_steps:
            return not_measured("turned off (relearning_steps: 0)")
        if "KTA" not in results.cohorts:
            return not_measured("no volumes in KTA")
        goal = float(results.values("G", "KTA", "psnr").mean()) * (1 - self.tolerance)
        curves = {name: self.curve(models[name], goal) for name in ("unlearned", "oracle") if name in models}
        ratio = relearning_ratio(curves["unlearned"], curves.get("oracle", []), goal)
        return {**ratio, "max_steps": self.max_steps, "curves": curves}

    def curve(self, network: torch.nn.Module, goal: float) -> list[tuple[int, float]]:
        """(step, mean PSNR in dB on the forget test volumes) until the goal or ``max_steps``; the network stays."""
        network = copy.deepcopy(network).to(self.device)
        points = [(0, self._psnr(network))]
        if points[0][1] >= goal:
            return points
        torch.manual_seed(self.seed)
        trainer = SupervisedTrainer(
            device=self.device,
            max_epochs=self.max_steps // self.every,
            epoch_length=self.every,
            train_data_loader=self.forget_loader,
            network=network,
            optimizer=torch.optim.Adam(network.parameters(), lr=self.learning_rate),
            loss_function=self.loss_function,
            prepare_batch=prepare_batch,
            train_handlers=[ClipGradient(0.5), FiniteLoss()],
            **loss_scaling(network),
        )

        @trainer.on(Events.EPOCH_COMPLETED)
        def _follow(engine: Engine) -> None:
            state = torch.get_rng_state()
            points.append((engine.state.iteration, self._psnr(network)))
            torch.set_rng_state(state)
            logger.info("relearning: step %d, %.2f dB, goal %.2f dB", *points[-1], goal)
            if points[-1][1] >= goal:
                engine.terminate()

        trainer.run()
        return points

    def _psnr(self, network: torch.nn.Module) -> float:
        evaluator = SupervisedEvaluator(
            device=self.device,
            val_data_loader=self.test_loader,
            network=network,
            prepare_batch=prepare_batch,
            key_val_metric={"psnr": MeanOverVolumes(VolumeMetrics(), "psnr")},
            decollate=False,
        )
        evaluator.run()
        return float(evaluator.state.metrics["psnr"])
