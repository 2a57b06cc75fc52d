"""Blindspot unlearning: on the forget set, do as a network that never saw it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from ignite.engine import Engine

from scripts.unlearning.forget_term import ForgetTerm
from scripts.unlearning.frozen import Teacher, loss_to_image


class Blindspot(ForgetTerm):
    """Learn the blind teacher's output on the forget set: the term is D(S(x_f), T(x_f)), D being J with T's image.

    Args:
        teacher: T; a handler listed before, e.g. ``BlindTeacher`` or ``CalibratedTeacher``.
        forget_loader, forget_weight, retain_weight: see :class:`ForgetTerm`; usual forget weights are 0.1 to 1.

    Source: Tarun et al. 2023 (Deep regression unlearning), without their attention match.
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
        return loss_to_image(engine, prediction, label, self.image_of(engine, self.teacher))
