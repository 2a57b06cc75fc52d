"""Methods that change the weights themselves, before, between or after the training steps."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated

import torch
from ignite.engine import Events
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from scripts.networks.weights import unwrap
from scripts.run.engines import Handler, Trainer, Workflow
from scripts.run.kinds import BELOW_ONE, Positive, from_to, mapping_of, within
from scripts.unlearning.fit import initialise, seeded, tensors_of
from scripts.unlearning.passes import mean_loss, mean_squared_gradient, trained_weights
from scripts.unlearning.teachers import Teacher

logger = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class Perturb(Handler):
    """Handler that mixes the weights with fresh ones at ``STARTED``: θ ← (1 − a)·θ + a·θ_new, a chosen by name.

    With a = 1 a part is reset and nothing of what it had learnt is left in it. The training that follows heals the
    network; it never learns again what is never shown to it. List it after handlers that copy the original.

    Buffers, such as the statistics of a batch normalisation, are mixed as the parameters are; those of whole numbers
    are new where a = 1. Parameters that are frozen and take noise are trained until ``COMPLETED``, so that they heal.

    Args:
        fresh: a freshly built network, never the one that unlearns (in a configuration ``"%network"``). Parameters
            that no module draws, such as data-consistency weights, start as they were built.
        noise: Pattern of the names of parameters and buffers (``cascades.0.*``) -> share a of noise, from 0 to 1. The
            first pattern that matches counts; what none matches stays as it is.
        seed: The seed of the fresh weights.

    Example:
        >>> Perturb(torch.nn.Linear(1, 1), {"cascades.0.*": 0.5, "cascades.*": 1.0}).share_of("cascades.2.dc_weight")
        1.0

    Source: Ash and Adams 2020 (shrink and perturb); Lee et al. 2025 (distillation robustifies unlearning).

    Raises:
        ValueError: a pattern matches no name, ``fresh`` is the trained network, or several processes train a network
            whose frozen parameters would have to heal.
    """

    fresh: torch.nn.Module
    noise: Annotated[Mapping[str, float], mapping_of(from_to(0, 1))]
    seed: int = 0

    def finish(self, engine: Trainer) -> None:
        """Freeze again what was frozen before."""
        for weight in self._frozen:
            weight.requires_grad_(False)

    def share_of(self, name: str) -> float:
        """Share of noise of a parameter."""
        return next((share for pattern, share in self.noise.items() if fnmatchcase(name, pattern)), 0.0)

    @torch.no_grad()
    def __call__(self, engine: Trainer) -> None:
        network = unwrap(engine.network)
        if self.fresh is network:
            raise ValueError("perturbation: 'fresh': expected a fresh network, found the one that unlearns")
        values = tensors_of(network)
        for pattern in self.noise:
            if not any(fnmatchcase(name, pattern) for name in values):
                raise ValueError(f"perturbation: 'noise': expected patterns of {type(network).__name__}'s parameters, "
                                 f"found {pattern!r}, which matches none")  # fmt: skip
        initialise(self.fresh, self.seed)
        for name, new in tensors_of(self.fresh).items():
            share, new = self.share_of(name), new.to(values[name])
            if new.is_floating_point() or new.is_complex():
                values[name].lerp_(new, share)
            elif share == 1:
                values[name].copy_(new)
        self._heal_frozen(
            engine, [name for name in values if self.share_of(name) > 0], dict(network.named_parameters())
        )

    def _heal_frozen(self, engine: Trainer, moved: list[str], weights: dict[str, torch.nn.Parameter]) -> None:
        """Let frozen parameters that took noise be trained, and log what was done."""
        counted = sum(weights[name].numel() for name in moved if name in weights)
        logger.info("perturbation: %d of %d weights", counted, sum(weight.numel() for weight in weights.values()))
        frozen = [name for name in moved if name in weights and not weights[name].requires_grad]
        if frozen and unwrap(engine.network) is not engine.network:
            raise ValueError(
                "perturbation: 'noise': expected no frozen parameters that take noise where several processes train "
                f"one network, found {', '.join(frozen[:5])}"
            )
        self._frozen = [weights[name].requires_grad_(True) for name in frozen]
        buffers = [name for name in moved if name not in weights]
        for names, what in ((frozen, "frozen parameters are trained in this run"), (buffers, "buffers are mixed too")):
            if names:
                logger.info("perturbation: %d %s: %s", len(names), what, ", ".join(names[:5]))


@dataclass(eq=False, repr=False)
class SynapticDampening(Handler):
    """Handler that dampens at ``STARTED`` the weights specific to the forget set: θ_i ← min(λ·I_D/I_f, 1)·θ_i.

    Only where I_f > α·I_D. The importance I is the mean over samples of the squared gradient of J. Where the whole
    training data may not be read, the retain subset stands in for D. List :class:`NoTraining` after it for the plain
    method; without it, fine-tuning follows.

    Args:
        retain_loader: Batches that stand for D; one pass, sample by sample.
        forget_loader: Batches of the forget set; one pass, sample by sample.
        alpha: The threshold α on the ratio of importances; usually 10.
        lam: The strength λ; usually 1. A smaller value dampens more.

    Source: Foster et al. 2024 (SSD), equations 5 and 6.
    """

    retain_loader: Iterable
    forget_loader: Iterable
    alpha: Positive = 10.0
    lam: Positive = 1.0

    def __call__(self, engine: Trainer) -> None:
        whole = mean_squared_gradient(engine, self.retain_loader)
        forget = mean_squared_gradient(engine, self.forget_loader)
        dampened = 0
        with torch.no_grad():
            for name, weight in trained_weights(engine.network).items():
                selected = forget[name] > self.alpha * whole[name]
                factor = torch.where(selected, (self.lam * whole[name] / forget[name]).clamp(max=1.0), 1.0)
                weight.mul_(factor)
                dampened += int(selected.sum())
        logger.info("synaptic dampening: %d weights", dampened)


@dataclass(eq=False, repr=False)
class Rewind(Handler):
    """Handler that ends with the weights of the epoch whose mean J on the forget set came closest to a reference.

    J is measured at each ``EPOCH_COMPLETED``, always under the same masks; the chosen weights are loaded at
    ``COMPLETED``. It combines with any method; list it last.

    Args:
        forget_loader: Batches of the forget set; one pass per epoch.
        reference: The error to match, in units of the loss, or a teacher listed before, whose error on the forget set
            is matched.
        seed: The seed of the masks.

    Attributes:
        errors: The mean of J on the forget set after each epoch.

    Source: Kurmanji et al. 2023 (SCRUB+R), there with the error on unseen data of the forget set's kind.
    """

    event = Events.EPOCH_COMPLETED
    forget_loader: Iterable
    reference: float | Teacher
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.errors: list[float] = []
        self._kept: dict[str, torch.Tensor] = {}

    def start(self, engine: Trainer) -> None:
        """Find the reference error."""
        self.errors, self._kept = [], {}
        reference = self.reference
        self._target = float(reference) if isinstance(reference, int | float) else self._error(engine, reference)

    def __call__(self, engine: Trainer) -> None:
        error = self._error(engine)
        if all(abs(error - self._target) < abs(earlier - self._target) for earlier in self.errors):
            state = unwrap(engine.network).state_dict()
            self._kept = {name: value.detach().clone() for name, value in state.items()}
        self.errors.append(error)

    def state_dict(self) -> dict:
        """The errors so far, and the weights of the epoch that is closest."""
        return {"errors": list(self.errors), "kept": self._kept}

    def load_state_dict(self, state: dict) -> None:
        """Resume with kept errors and weights."""
        self.errors, self._kept = list(state["errors"]), dict(state["kept"])

    def finish(self, engine: Trainer) -> None:
        """Put the kept weights back."""
        if self._kept:
            unwrap(engine.network).load_state_dict(self._kept)
            best = min(range(len(self.errors)), key=lambda i: abs(self.errors[i] - self._target))
            logger.info(
                "rewind: epoch %d, forget error %.4g, reference %.4g", best + 1, self.errors[best], self._target
            )

    def _error(self, engine: Trainer, teacher: Teacher | None = None) -> float:
        with seeded(self.seed, engine.state.device):
            return mean_loss(engine, self.forget_loader, teacher)


@dataclass(eq=False, repr=False)
class WeightAverage(Handler):
    """Handler that makes the exponential moving average of the weights the network's own at ``COMPLETED``.

    θ̄ ← decay·θ̄ + (1 − decay)·θ after each step from ``start`` on, beginning with the weights of that step, not with
    θ0, which would bring back what was forgotten. (Ignite's ``EMAHandler`` begins with θ0, copied before the weights
    are loaded.)

    Args:
        decay: The decay of the average; 1/(1 − decay) is about the number of steps averaged.
        start: The share of the run before averaging begins, from 0 and below 1.
    """

    exact, event = True, Events.ITERATION_COMPLETED  # exact: reads nothing but the batches
    decay: Annotated[float, within(0, 1)] = 0.95
    start: Annotated[float, BELOW_ONE] = 0.5
    average: AveragedModel | None = field(default=None, init=False)

    def attach(self, engine: Workflow) -> None:
        """Attach to the trainer."""
        for event, handler in ((Events.STARTED, self.begin), (self.event, self), (Events.COMPLETED, self.finish)):
            engine.add_event_handler(event, handler)

    def begin(self, engine: Trainer) -> None:
        """Drop the average of an earlier run."""
        self.average = None
        self._network = unwrap(engine.network)

    def __call__(self, engine: Trainer) -> None:
        network = unwrap(engine.network)
        if engine.state.iteration <= self.start * engine.state.max_epochs * engine.state.epoch_length:
            return
        if self.average is None:
            self.average = self._average(network)
        self.average.update_parameters(network)

    def state_dict(self) -> dict:
        """The average so far; empty before averaging began."""
        return {} if self.average is None else self.average.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Resume with a kept average."""
        if state:
            self.average = self._average(self._network)
            self.average.load_state_dict(state)

    def _average(self, network: torch.nn.Module) -> AveragedModel:
        return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(self.decay), use_buffers=True)

    def finish(self, engine: Trainer) -> None:
        """Put the average into the network; whole numbers, such as counts of batches, stay its own."""
        if self.average is not None:
            network = unwrap(engine.network)
            state = network.state_dict()
            average = self.average.module.state_dict()
            whole = {name for name, value in state.items() if not (value.is_floating_point() or value.is_complex())}
            network.load_state_dict({name: state[name] if name in whole else average[name] for name in state})
