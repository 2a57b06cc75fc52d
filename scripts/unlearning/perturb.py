"""Take knowledge out of the weights: move them towards, or replace them by, freshly drawn ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from ignite.engine import Events

from scripts.networks.weights import unwrap
from scripts.run.engines import Trainer
from scripts.unlearning.arguments import check_share
from scripts.unlearning.blind_teacher import initialise

logger = logging.getLogger(__name__)


class Perturb:
    """Handler that mixes the weights with fresh ones at ``STARTED``: θ ← (1 − a)·θ + a·θ_new, a chosen by name.

    With a = 1 a part is reset and nothing of what it had learnt is left in it. The training that follows heals the
    network; it never learns again what is never shown to it. List it after handlers that copy the original.

    Args:
        fresh: a freshly built network, never the one that unlearns (in a configuration ``"%network"``). Parameters
            that no module draws, such as data-consistency weights, start as they were built.
        noise: Pattern of parameter names (``cascades.0.*``) -> share a of noise, in [0, 1]. The first pattern that
            matches counts; what none matches stays as it is.
        zero: Patterns of parameters for which θ_new is 0. With the last 1x1 convolution of each cascade's U-Net a
            reset cascade starts as data consistency alone.
        seed: The seed of the fresh weights.

    Example:
        >>> Perturb(torch.nn.Linear(1, 1), {"cascades.0.*": 0.5, "cascades.*": 1.0}).share_of("cascades.2.dc_weight")
        1.0

    Source: Ash and Adams 2020 (shrink and perturb); Lee et al. 2025 (distillation robustifies unlearning).

    Raises:
        ValueError: a share is out of range, a pattern matches no parameter, or ``fresh`` is the trained network.
    """

    def __init__(
        self, fresh: torch.nn.Module, noise: Mapping[str, float], zero: Sequence[str] = (), seed: int = 0
    ) -> None:
        check_share("perturbation", **{f"noise: {pattern}": share for pattern, share in noise.items()})
        self.fresh = fresh
        self.noise = dict(noise)
        self.zero = list(zero)
        self.seed = seed

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def share_of(self, name: str) -> float:
        """Share of noise of a parameter."""
        return next((share for pattern, share in self.noise.items() if fnmatchcase(name, pattern)), 0.0)

    @torch.no_grad()
    def __call__(self, engine: Trainer) -> None:
        network = unwrap(engine.network)
        if self.fresh is network:
            raise ValueError("perturbation: 'fresh': expected a fresh network, found the one that unlearns")
        weights = dict(network.named_parameters())
        moving = [pattern for pattern, share in self.noise.items() if share > 0]
        for field, patterns in (("noise", moving), ("zero", self.zero)):
            for pattern in patterns:
                if not any(fnmatchcase(name, pattern) for name in weights):
                    raise ValueError(f"perturbation: '{field}': expected patterns of {type(network).__name__}'s "
                                     f"parameters, found {pattern!r}, which matches none")  # fmt: skip
        initialise(self.fresh, self.seed)
        for name, new in self.fresh.named_parameters():
            zero = any(fnmatchcase(name, pattern) for pattern in self.zero)
            drawn = torch.zeros_like(new) if zero else new
            weights[name].lerp_(drawn.to(weights[name]), self.share_of(name))
        moved = sum(weight.numel() for name, weight in weights.items() if self.share_of(name) > 0)
        logger.info("perturbation: %d of %d weights", moved, sum(weight.numel() for weight in weights.values()))
