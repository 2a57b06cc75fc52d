"""Training an audited model further, and looking at it on the way: what resurfacing and relearning are made of."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import SupervisedTrainer

from scripts.audit.experiment import Observed, by_volume, plain_settings
from scripts.data.loaders import EndlessBatches
from scripts.data.slices import SliceDataset, Undersample, prepare_batch
from scripts.data.volumes import Volume
from scripts.evaluation.reconstruct import measure_models
from scripts.evaluation.results import Results
from scripts.kspace.masks import ColumnMask
from scripts.training import ClipGradient, FiniteLoss

logger = logging.getLogger(__name__)
Curve = dict[int, Results]  # step -> results of the model at that step


class ContinuedTraining:
    """Trains copies of models with MONAI's stock trainer: Adam, gradients clipped at 0.5, equal slices for every model.

    Args:
        volumes: The volumes to train on.
        mask: The undersampling pattern, drawn afresh for every slice of training and fixed for every measured volume.
        loss_function: J, see :class:`scripts.training.ReconstructionLoss`.
        device: Where to train.
        batch_size: Slices of one step.
        num_workers: Processes that read the slices.
        learning_rate: Adam's.
        anneal: Whether the learning rate falls to zero along a half cosine.
        seed: Fixes the order of the slices and their masks.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        mask: ColumnMask,
        loss_function: torch.nn.Module,
        device: torch.device | str,
        batch_size: int = 1,
        num_workers: int = 0,
        learning_rate: float = 1e-3,
        anneal: bool = False,
        seed: int = 0,
    ) -> None:
        dataset = SliceDataset(volumes, Undersample(mask))
        self.loader = DataLoader(dataset, batch_size=batch_size, shuffle=bool(volumes), num_workers=num_workers)
        self.transform, self.loss_function, self.batch_size = Undersample(mask, seed=0), loss_function, batch_size
        self.device = torch.device(device)
        self.learning_rate, self.anneal, self.seed = learning_rate, anneal, seed
        self.seen: Observed = {}  # of every curve

    def settings(self) -> dict[str, Any]:
        """Its settings, as JSON content."""
        parts = {"loss": self.loss_function, "mask": self.transform.mask}
        return {**plain_settings(self), **{name: plain_settings(part) for name, part in parts.items()}}

    def curve(
        self,
        name: str,
        network: torch.nn.Module,
        at: Collection[int],
        cohorts: Mapping[str, Sequence[tuple[Volume, int]]],
    ) -> Curve:
        """Train a copy of a network and measure it.

        Args:
            name: The model's name in the results.
            network: The model; it is left as it is.
            at: Steps at which it is measured; the last is the end. 0 is the model as it is.
            cohorts: cohort -> slices on which it is measured.

        Returns:
            Step -> results, in ascending order.
        """
        network, points, steps = copy.deepcopy(network).to(self.device), Curve(), max(at)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1)) if self.anneal else None

        def look(step: int) -> None:
            state = torch.get_rng_state()
            found = measure_models({name: network}, cohorts, self.transform, self.device)
            points[step] = Results(found)
            self.seen.setdefault(str(step), {}).update(by_volume(found))
            torch.set_rng_state(state)
            network.train()

        def step_done(engine: Engine) -> None:
            if schedule is not None:
                schedule.step()
            if engine.state.iteration in at:
                look(engine.state.iteration)

        if 0 in at:
            look(0)
        if steps:
            torch.manual_seed(self.seed)
            trainer = SupervisedTrainer(
                device=self.device,
                max_epochs=1,
                epoch_length=steps,
                train_data_loader=EndlessBatches(self.loader),
                network=network,
                optimizer=optimizer,
                loss_function=self.loss_function,
                prepare_batch=prepare_batch,
                train_handlers=[ClipGradient(0.5), FiniteLoss()],
            )
            trainer.add_event_handler(Events.ITERATION_COMPLETED, step_done)
            logger.info("%s: %d steps of training, measured at %d of them", name, steps, len(at))
            trainer.run()
        return points


def model_of(curve: Curve) -> str:
    """The name of the model whose curve it is."""
    (model,) = next(iter(curve.values())).models
    return model


def against(reference: Curve | None) -> str:
    """What a model's rise is beside, in words."""
    return "its own state" if reference is None else f"the {model_of(reference)}, trained on alike"


def level(curve: Curve, step: int, cohort: str, metric: str) -> np.ndarray:
    """(n,) a metric of each volume of a cohort at a step."""
    return curve[step].values(model_of(curve), cohort, metric)


def rise(model: Curve, reference: Curve | None, step: int, cohort: str, metric: str) -> np.ndarray:
    """(n,) how much a metric of each volume has risen by a step, less the rise of the reference treated alike.

    Without a reference it is the model's rise alone: weaker evidence, since a model that never knew rises too where it
    is trained on what it does not know.
    """
    own = level(model, step, cohort, metric) - level(model, 0, cohort, metric)
    return own if reference is None else own - rise(reference, None, step, cohort, metric)
