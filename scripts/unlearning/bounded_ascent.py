"""Gradient ascent whose gradient vanishes as the loss rises."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn.functional import softplus

from scripts.run.engines import Trainer
from scripts.unlearning.arguments import check_positive
from scripts.unlearning.forget_term import ForgetTerm
from scripts.unlearning.frozen import Original


class BoundedAscent(ForgetTerm):
    """Ascend J on the forget set, less and less: the term is (2/β)·softplus(−β·(J(f) − J_G(f))/τ).

    Its gradient is −1/τ of J's at the start and falls to 0 as J(f) rises above the original's by several τ/β.

    Args:
        beta: The sharpness β, above 0; usual values are 0.1 to 1.
        tau: The scale τ of a rise of J, above 0, in units of the loss.
        forget_loader, forget_weight, retain_weight: The arguments of :class:`ForgetTerm`.

    Source: after negative preference optimisation, Zhang et al. 2024.

    Raises:
        ValueError: ``beta`` or ``tau`` is not above 0.
    """

    def __init__(
        self,
        beta: float,
        tau: float,
        forget_loader: Iterable | None = None,
        forget_weight: float = 1.0,
        retain_weight: float = 1.0,
    ) -> None:
        super().__init__(forget_loader, forget_weight, retain_weight)
        check_positive("bounded ascent", beta=beta, tau=tau)
        self.beta = beta
        self.tau = tau
        self.original = Original()

    def start(self, engine: Trainer) -> None:
        """Restart the forget stream and copy G."""
        super().start(engine)
        self.original.start(engine)

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        before = engine.loss_function(self.image_of(engine, self.original), label)
        rise = (engine.loss_function(prediction, label) - before) / self.tau
        return 2 / self.beta * softplus(-self.beta * rise)
