"""Task arithmetic: learn the forget set still better, and go the other way."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from ignite.engine import Events

from scripts.engines import Trainer
from scripts.networks.weights import unwrap
from scripts.unlearning.arguments import check_positive
from scripts.unlearning.batches import trained_weights
from scripts.unlearning.fit import fit


class TaskNegation:
    """Handler that starts from θ0 − α·(θ_f − θ0), θ_f being a copy of G fine-tuned on the forget set at ``STARTED``.

    The trainer's own fine-tuning on the retain subset follows.

    Args:
        forget_loader: batches of the forget set.
        alpha: α, above 0: how far.
        steps: optimiser steps of the copy.
        learning_rate: of the copy; cosine decay to 0.
        seed: of the copy's order and masks.

    Source: Ilharco et al. 2023 (Editing models with task arithmetic).

    Raises:
        ValueError: ``alpha``, ``steps`` or ``learning_rate`` not above 0.
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
