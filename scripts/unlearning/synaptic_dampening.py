"""Selective synaptic dampening: forget in closed form, without training."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from ignite.engine import Events

from scripts.run.engines import Trainer
from scripts.unlearning.arguments import check_positive
from scripts.unlearning.batches import mean_squared_gradient, trained_weights

logger = logging.getLogger(__name__)


class SynapticDampening:
    """Handler that dampens at ``STARTED`` the weights specific to the forget set: θ_i ← min(λ·I_D/I_f, 1)·θ_i.

    Only where I_f > α·I_D. The importance I is the mean over samples of the squared gradient of J. Where the whole
    training data may not be read, the retain subset stands in for D. List :class:`NoTraining` after it for the plain
    method; without it, fine-tuning follows.

    Args:
        retain_loader: Batches that stand for D; one pass, sample by sample.
        forget_loader: Batches of the forget set; one pass, sample by sample.
        alpha: The threshold α on the ratio of importances, above 0; usually 10.
        lam: The strength λ, above 0; usually 1. A smaller value dampens more.

    Source: Foster et al. 2024 (SSD), equations 5 and 6.

    Raises:
        ValueError: ``alpha`` or ``lam`` is not above 0.
    """

    def __init__(self, retain_loader: Iterable, forget_loader: Iterable, alpha: float = 10.0, lam: float = 1.0) -> None:
        check_positive("synaptic dampening", alpha=alpha, lam=lam)
        self.retain_loader = retain_loader
        self.forget_loader = forget_loader
        self.alpha = alpha
        self.lam = lam

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self)

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
