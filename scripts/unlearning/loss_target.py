"""Forget until the error is that of a network that never saw the forget set, and no further."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from ignite.engine import Engine

from scripts.unlearning.forget_term import ForgetTerm
from scripts.unlearning.frozen import Teacher


class LossTarget(ForgetTerm):
    """Bring the error of each forget sample to that of a blind teacher: the term is abs(J(f_i) − τ_i).

    τ_i is the teacher's J on the same slice under the same mask, so ascent and descent meet where a network without
    D_f would be.

    Args:
        teacher: gives τ_i; a handler listed before, e.g. ``BlindTeacher``.
        forget_loader, forget_weight, retain_weight: see :class:`ForgetTerm`.

    Source: this project.
    """

    def __init__(
        self,
        teacher: Teacher,
        forget_loader: Iterable | None = None,
        forget_weight: float = 1.0,
        retain_weight: float = 1.0,
    ) -> None:
        super().__init__(forget_loader, forget_weight, retain_weight)
        self.teacher = teacher

    def term(self, engine: Engine, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        target = engine.loss_function(self.image_of(engine, self.teacher), label)
        return (engine.loss_function(prediction, label) - target).abs()
