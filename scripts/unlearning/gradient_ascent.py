"""Gradient ascent on the forget set."""

from __future__ import annotations

import torch

from scripts.run.engines import Trainer
from scripts.unlearning.forget_term import ForgetTerm


class GradientAscent(ForgetTerm):
    """Ascend the reconstruction loss of the forget set: the term is −J(x_f, y_f).

    Xue et al. 2024 add :class:`L1Penalty` (GA-l1) and, in algorithm 1, the retain loss in every step (GA-l1-FT).
    """

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        return -engine.loss_function(prediction, label)
