"""Unlearning by a Gaussian whose width is the residual: be as far off as a teacher, and as sure as it can be."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from scripts.kspace.fourier import crop_like
from scripts.run.engines import Trainer
from scripts.unlearning.arguments import check_positive
from scripts.unlearning.frozen import Teacher
from scripts.unlearning.teacher_term import TeacherTerm


class ResidualGaussian(TeacherTerm):
    """Match the teacher's predictive Gaussian on the forget set: the term is KL(N(T(x), σ_T²) ‖ N(S(x), σ_S²)).

    σ = c·rms(image − y) of each network on each slice: how far off it is stands for how sure it can be. In closed form,
    over the pixels of a slice, KL = log(σ_S / σ_T) + (σ_T² + mean (T(x) − S(x))²) / (2·σ_S²) − 1/2, which is 0 where
    both images are equal.

    The method is GURU-like. It was written after the abstract, which states residuals scaled by a confidence factor
    and a closed-form divergence between teachers and student; the full text was not at hand. One σ for a slice, the
    blind teacher on the forget set, and J with the distillation of the original on the retain set are this project's
    reading.

    Args:
        teacher: The teacher T, a handler listed before.
        scale: The factor c, above 0.
        forget_loader, forget_weight, retain_weight: The arguments of :class:`ForgetTerm`.

    Source: after GURU: Guided Unlearning via Residual Uncertainty in Regression Models, ICLR 2026 submission 17272.

    Raises:
        ValueError: ``scale`` is not above 0.
    """

    def __init__(
        self,
        teacher: Teacher,
        scale: float = 1.0,
        forget_loader: Iterable | None = None,
        forget_weight: float = 1.0,
        retain_weight: float = 1.0,
    ) -> None:
        super().__init__(teacher, forget_loader, forget_weight, retain_weight)
        check_positive("residual Gaussian", scale=scale)
        self.scale = scale

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        return residual_divergence(prediction, self.image_of(engine, self.teacher), label["target"], self.scale)


def residual_divergence(
    student: torch.Tensor, teacher: torch.Tensor, target: torch.Tensor, scale: float = 1.0
) -> torch.Tensor:
    """KL of the teacher's Gaussian from the student's, each as wide as its residual, in nats a pixel.

    Args:
        student: The student's image, (B, 1, H, W).
        teacher: The teacher's image, (B, 1, H, W).
        target: The reference image, (B, 1, h, w), h <= H, w <= W.
        scale: The factor of the residuals.

    Returns:
        (B,).

    Example:
        >>> one = torch.ones(1, 1, 1, 1)
        >>> residual_divergence(3 * one, 3 * one, one)
        tensor([0.])
    """
    tiny = torch.finfo(torch.float32).tiny
    own, other = (crop_like(image, target).float() / _scale(target) for image in (student, teacher))
    truth = target.float() / _scale(target)
    variances = [(scale**2 * _mean_square(image - truth)).clamp(min=tiny) for image in (own, other)]
    apart = variances[1] + _mean_square(other - own)
    return (variances[0] / variances[1]).log() / 2 + apart / (2 * variances[0]) - 0.5


def _scale(target: torch.Tensor) -> torch.Tensor:
    """The largest value of each reference image, (B, 1, 1, 1): the divergence does not depend on the unit."""
    return target.float().amax(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


def _mean_square(x: torch.Tensor) -> torch.Tensor:
    return x.square().mean(dim=(1, 2, 3))
