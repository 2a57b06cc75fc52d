"""Return to the epoch at which the forget error was right."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from ignite.engine import Events

from scripts.networks.weights import unwrap
from scripts.run.engines import Trainer
from scripts.unlearning.batches import mean_loss
from scripts.unlearning.fit import seeded
from scripts.unlearning.frozen import Teacher

logger = logging.getLogger(__name__)


class Rewind:
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

    def __init__(self, forget_loader: Iterable, reference: float | Teacher, seed: int = 0) -> None:
        self.forget_loader = forget_loader
        self.reference = reference
        self.seed = seed
        self.errors: list[float] = []
        self._kept: dict[str, torch.Tensor] = {}
        self._target = 0.0

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self.rewind)

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

    def rewind(self, engine: Trainer) -> None:
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
