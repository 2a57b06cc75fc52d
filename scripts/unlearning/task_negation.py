"""Task arithmetic: fine-tune on the forget set, then step in the opposite direction."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from ignite.engine import Events

from scripts.networks.weights import unwrap
from scripts.run.engines import Trainer
from scripts.unlearning.arguments import check_positive
from scripts.unlearning.batches import trained_weights
from scripts.unlearning.fit import fit


class TaskNegation:
    """Handler that starts from θ0 − α·(θ_f − θ0), θ_f being a copy of G fine-tuned on the forget set at ``STARTED``.

    The trainer's own fine-tuning on the retain subset follows.

    Args:
        forget_loader: Batches of the forget set.
        alpha: The length α of the step, above 0.
        steps: The number of optimiser steps of the copy.
        learning_rate: The learning rate of the copy at its first step; it decays to 0 along a cosine.
        seed: The seed of the copy's order of slices and masks.

    Source: Ilharco et al. 2023 (Editing models with task arithmetic).

    Raises:
        ValueError: ``alpha``, ``steps`` or ``learning_rate`` is not above 0.
    """

    def __init__(
        self, forget_loader: Iterable, alpha: float, steps: int, learning_rate: float = 1e-4, seed: int = 0
    ) -> None:
        check_positive("task negation", alpha=alpha, steps=steps, learning_rate=learning_rate)
        self.forget_loader = forget_loader
        self.alpha = alpha
        self.steps = steps
        self.learning_rate = learning_rate
        self.seed = seed

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Trainer) -> None:
        tuned = copy.deepcopy(unwrap(engine.network))
        fit(engine, tuned, self.forget_loader, self.steps, self.learning_rate, "learning the task vector", self.seed)
        after = trained_weights(tuned)
        with torch.no_grad():
            for name, weight in trained_weights(engine.network).items():
                weight.sub_(self.alpha * (after[name] - weight))
