"""SCRUB: depart from the original on the forget set and stay with it on the retain set, in turns."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from monai.utils import CommonKeys as Keys

from scripts.run.engines import Trainer
from scripts.training.batch_share import share_mean
from scripts.unlearning.arguments import check_positive
from scripts.unlearning.forget_term import ForgetTerm
from scripts.unlearning.frozen import Original, loss_to_image


class Scrub(ForgetTerm):
    """Alternate two steps: min γ·J(r) + α·D(S, G) on retain, and max D(S, G) on forget batches; D is J with G's image.

    The first step is a min step, since at S = G the gradient of D is 0. Max steps are every second step of the first
    ``max_epochs`` epochs. List :class:`Rewind` after it for SCRUB+R.

    Args:
        forget_loader: Batches of the forget set.
        gamma: The factor γ of the retain loss.
        alpha: The factor α of the distance to G on the retain set.
        max_epochs: The number of epochs with max steps.
        forget_weight: The factor of D in the max steps.

    Source: Kurmanji et al. 2023 (Towards unbounded machine unlearning), equation 3.

    Raises:
        ValueError: ``gamma`` or ``max_epochs`` is not above 0.
    """

    def __init__(
        self,
        forget_loader: Iterable,
        gamma: float = 0.99,
        alpha: float = 0.1,
        max_epochs: int = 2,
        forget_weight: float = 1.0,
    ) -> None:
        super().__init__(forget_loader, forget_weight)
        check_positive("scrub", gamma=gamma, max_epochs=max_epochs)
        self.gamma = gamma
        self.alpha = alpha
        self.max_epochs = max_epochs
        self.original = Original()

    def start(self, engine: Trainer) -> None:
        """Restart the forget stream and copy G."""
        super().start(engine)
        self.original.start(engine)

    def __call__(self, engine: Trainer) -> None:
        output = engine.state.output
        if engine.state.epoch <= self.max_epochs and engine.state.iteration % 2 == 0:
            prediction, label = self.next_forget(engine)
            output[Keys.LOSS] = self.forget_weight * share_mean(self.term(engine, prediction, label), label)
        else:
            label = self.take(engine, engine.state.batch)
            distance = -share_mean(self.term(engine, output[Keys.PRED], label), label)
            output[Keys.LOSS] = self.gamma * output[Keys.LOSS] + self.alpha * distance

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        return -loss_to_image(engine, prediction, label, self.image_of(engine, self.original))
