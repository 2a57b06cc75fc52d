"""Optimiser steps scaled weight by weight: the base of all weight masks."""

from __future__ import annotations

import torch
from ignite.engine import Events
from monai.engines import IterationEvents

from scripts.run.engines import Trainer
from scripts.unlearning.batches import trained_weights


class StepScale:
    """Handler that scales each weight's optimiser step: θ ← θ_before + factor·(θ_after − θ_before).

    The weights are copied at ``BACKWARD_COMPLETED`` and corrected at ``MODEL_COMPLETED``, so a factor of 0 keeps a
    weight unchanged, whatever momentum, Adam or weight decay do. Scaling the gradient would not: Adam's steps do not
    depend on its scale. A subclass chooses the factors.
    """

    def __init__(self) -> None:
        self.factors: dict[str, torch.Tensor] = {}
        self._before: dict[str, torch.Tensor] = {}

    def choose(self, engine: Trainer) -> dict[str, torch.Tensor]:
        """At ``STARTED``: factors in [0, 1] by name of the trained weights, in their shapes."""
        raise NotImplementedError

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.keep)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def start(self, engine: Trainer) -> None:
        """Choose the factors."""
        self.factors = self.choose(engine)

    def keep(self, engine: Trainer) -> None:
        """Copy the weights before the optimiser's step."""
        self._before = {name: weight.detach().clone() for name, weight in trained_weights(engine.network).items()}

    @torch.no_grad()
    def __call__(self, engine: Trainer) -> None:
        for name, weight in trained_weights(engine.network).items():
            before, factor = self._before[name], self.factors[name]
            weight.copy_(torch.where(factor == 1, weight, before + factor * (weight - before)))
