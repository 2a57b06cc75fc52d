"""Training an audited model further, and looking at it on the way: what resurfacing and relearning are made of."""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import SupervisedTrainer

from scripts.data.loaders import EndlessBatches
from scripts.data.slices import SliceDataset, Undersample, prepare_batch
from scripts.data.volumes import Volume
from scripts.evaluation.reconstruct import measure_models
from scripts.evaluation.results import Results
from scripts.kspace.masks import ColumnMask
from scripts.networks.norm_relu import NormLeakyRelu
from scripts.training import ClipGradient, FiniteLoss

FILTERS = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
NORMS = (torch.nn.InstanceNorm2d, NormLeakyRelu)
MOVED, MOVED_SHARE = 0.02, 0.1  # dB, and share of the reference's change, below which a training says nothing
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
        network, points, steps = canonical(network).to(self.device), Curve(), max(at)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1)) if self.anneal else None

        def look(step: int) -> None:
            state = torch.get_rng_state()
            found = measure_models({name: network}, cohorts, self.transform, self.device)
            points[step] = Results(found)
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


def canonical(network: torch.nn.Module) -> torch.nn.Module:
    """A copy of a network whose filters before a normalisation have unit norm; it computes the same images.

    What follows such a filter does not depend on its scale, but what an optimiser makes of it does: Adam cannot move
    filters that were multiplied by 1,000, and a network that only suppresses would pass for one that has forgotten.
    Pairs are found where they follow each other in a ``Sequential``; of other networks see :func:`unmoved`.
    """
    network = copy.deepcopy(network)
    with torch.no_grad():
        for block in network.modules():
            if not isinstance(block, torch.nn.Sequential):
                continue
            for filters, norm in itertools.pairwise(block):
                scale_free = isinstance(norm, NORMS) and not getattr(norm, "track_running_stats", False)
                if scale_free and isinstance(filters, FILTERS) and filters.groups == 1:
                    _scale_to_one(filters)
    return network


def unmoved(model: Curve, reference: Curve | None) -> str | None:
    """Why a training says nothing about a model, whose images it hardly changed; None where it says something.

    Args:
        model: The model's results at each step.
        reference: Those of the reference, trained alike; None: a change of :data:`MOVED` dB is asked for.
    """
    own = _change(model)
    least = MOVED if reference is None else MOVED_SHARE * _change(reference)
    if own >= least:
        return None
    return f"the training changed the PSNR of its scans by {own:.3f} dB, expected {least:.3f} dB or more"


def _change(curve: Curve) -> float:
    """How far the PSNR of each scan has gone at most from where it began, mean over scans, in dB."""
    first = curve[min(curve)]
    steps = [
        np.concatenate([abs(curve[s].values(m, c, "psnr") - first.values(m, c, "psnr")) for c in first.cohorts])
        for m in first.models
        for s in curve
    ]
    return float(np.max(steps, axis=0).mean())


def _scale_to_one(filters: torch.nn.Conv2d | torch.nn.ConvTranspose2d) -> None:
    """Divide the filter of each output channel, with its bias, by the filter's norm."""
    weight, bias = filters.weight, filters.bias
    dim = 1 if isinstance(filters, torch.nn.ConvTranspose2d) else 0
    others = [axis for axis in range(weight.ndim) if axis != dim]
    norm = weight.square().sum(dim=others).sqrt().clamp_min(torch.finfo(weight.dtype).tiny)
    weight.div_(norm.reshape([-1 if axis == dim else 1 for axis in range(weight.ndim)]))
    if bias is not None:
        bias.div_(norm)


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
