"""Training an audited model further, and looking at it on the way: what resurfacing and relearning are made of."""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import SupervisedTrainer

from scripts.audit.measure import Given
from scripts.data.loaders import EndlessBatches
from scripts.data.slices import SliceDataset, Undersample, prepare_batch
from scripts.data.volumes import Volume
from scripts.evaluation.reconstruct import measure_models
from scripts.evaluation.results import Results
from scripts.networks.norm_relu import NormLeakyRelu
from scripts.training import ClipGradient, FiniteLoss

FILTERS = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
NORMS = (torch.nn.InstanceNorm2d, NormLeakyRelu)
SMALLEST = 1e-6  # root mean square that a tensor counts with at least, such as a bias of zeros
MOVED, MOVED_SHARE = 0.02, 0.1  # dB, and share of the reference's change, below which a training says nothing
logger = logging.getLogger(__name__)
Curve = dict[int, Results]  # step -> results of the model at that step


class RelativeSteps(torch.optim.SGD):
    """Momentum SGD in which each tensor's gradient has the tensor's own norm: a layer's scale does not matter to it.

    So no parametrisation hides what a network knows: the same images and gradients, whatever layers are multiplied by.

    Source: You, Gitman and Ginsburg, Large Batch Training of Convolutional Networks, 2017 (arXiv 1708.03888).
    """

    def step(self, closure: Any = None) -> Any:
        """One step, see :class:`torch.optim.SGD`."""
        with torch.no_grad():
            for tensor in (t for group in self.param_groups for t in group["params"] if t.grad is not None):
                norm = torch.linalg.vector_norm(tensor).clamp_min(SMALLEST * tensor.numel() ** 0.5)
                tensor.grad.mul_(norm / torch.linalg.vector_norm(tensor.grad).clamp_min(torch.finfo(norm.dtype).tiny))
        return super().step(closure)


class ContinuedTraining:
    """Trains copies of models with MONAI's stock trainer, gradients clipped at 0.5, equal slices for every model.

    The mask is drawn afresh for every slice of training and fixed for every measured volume.

    Args:
        given: The audit's data and settings.
        volumes: The volumes to train on.
        learning_rate: The optimiser's.
        anneal: Whether the learning rate falls to zero along a half cosine.
        relative: Whether to train by :class:`RelativeSteps` in place of Adam.
    """

    def __init__(
        self,
        given: Given,
        volumes: Sequence[Volume],
        learning_rate: float = 1e-3,
        anneal: bool = False,
        relative: bool = False,
    ) -> None:
        self.given, self.learning_rate, self.anneal, self.relative = given, learning_rate, anneal, relative
        self.batch_size, self.device = given.batch_size, torch.device(given.device)
        self.transform = Undersample(given.mask, seed=0)
        self.loader = DataLoader(
            SliceDataset(volumes, Undersample(given.mask)),
            batch_size=given.batch_size,
            shuffle=bool(volumes),
            num_workers=given.num_workers,
        )

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
        rate, weights = self.learning_rate, network.parameters()
        optimizer = RelativeSteps(weights, lr=rate, momentum=0.9) if self.relative else torch.optim.Adam(weights, rate)
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
            torch.manual_seed(self.given.seed)
            trainer = SupervisedTrainer(
                device=self.device,
                max_epochs=1,
                epoch_length=steps,
                train_data_loader=EndlessBatches(self.loader),
                network=network,
                optimizer=optimizer,
                loss_function=self.given.loss_function,
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
                    own = 1 if isinstance(filters, torch.nn.ConvTranspose2d) else 0  # the output channels' axis
                    others = [axis for axis in range(filters.weight.ndim) if axis != own]
                    norm_of = filters.weight.square().sum(dim=others, keepdim=True).sqrt()
                    norm_of.clamp_min_(torch.finfo(filters.weight.dtype).tiny)
                    filters.weight.div_(norm_of)
                    if filters.bias is not None:
                        filters.bias.div_(norm_of.flatten())
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
