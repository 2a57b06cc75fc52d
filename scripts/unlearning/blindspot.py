"""Blindspot unlearning: on the forget set, imitate a network that never saw it."""

from __future__ import annotations

import torch

from scripts.run.engines import Trainer
from scripts.unlearning.frozen import loss_to_image
from scripts.unlearning.teacher_term import TeacherTerm


class Blindspot(TeacherTerm):
    """Learn the blind teacher's output on the forget set: the term is D(S(x_f), T(x_f)), D being J with T's image.

    The arguments are those of :class:`TeacherTerm`; usual forget weights are 0.1 to 1.

    Source: Tarun et al. 2023 (Deep regression unlearning), without their attention match.
    """

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        return loss_to_image(engine, prediction, label, self.image_of(engine, self.teacher))
