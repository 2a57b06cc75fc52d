"""Forget until the error is that of a network that never saw the forget set, and no further."""

from __future__ import annotations

import torch

from scripts.run.engines import Trainer
from scripts.unlearning.teacher_term import TeacherTerm


class LossTarget(TeacherTerm):
    """Bring the error of each forget sample to that of a blind teacher: the term is abs(J(f_i) − τ_i).

    τ_i is the teacher's J on the same slice under the same mask, so ascent and descent meet where a network without
    D_f would be.

    The arguments are those of :class:`TeacherTerm`.

    Source: this project.
    """

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        target = engine.loss_function(self.image_of(engine, self.teacher), label)
        return (engine.loss_function(prediction, label) - target).abs()
