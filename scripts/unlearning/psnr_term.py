"""A loss term for the PSNR, which the SSIM loss leaves behind."""

from __future__ import annotations

import torch
from monai.engines import IterationEvents
from monai.utils import CommonKeys as Keys
from torch import Tensor

from scripts.kspace.fourier import crop_like
from scripts.run.engines import Trainer
from scripts.training.batch_share import share_mean
from scripts.unlearning.arguments import check_positive


class PsnrTerm:
    """Handler that adds −w·PSNR to the loss at ``LOSS_COMPLETED``: w·10·log10(|S(x) − y|² / |y|²).

    J is an SSIM loss and takes a network's brightness and large structures to the reference only late in a training. A
    network that begins anew has not the time; with this term it gains about half a dB in the same number of steps.

    Args:
        weight: The factor w, per dB. At 0.01 its gradient is a small part of J's until J is small.

    Source: this project.

    Raises:
        ValueError: ``weight`` is not above 0.
    """

    def __init__(self, weight: float = 0.01) -> None:
        check_positive("PSNR term", weight=weight)
        self.weight = weight

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Trainer) -> None:
        output = engine.state.output
        prediction, label = output[Keys.PRED], output[Keys.LABEL]
        errors = relative_error_db(prediction, label["target"])
        output[Keys.LOSS] = output[Keys.LOSS] + self.weight * share_mean(errors, label)


def relative_error_db(image: Tensor, target: Tensor) -> Tensor:
    """Energy of the error over that of the reference, 10·log10(|x − y|² / |y|²), in dB.

    Args:
        image: (B, 1, H, W).
        target: (B, 1, h, w), h <= H, w <= W.

    Returns:
        (B,).

    Example:
        >>> relative_error_db(torch.full((1, 1, 2, 2), 1.1), torch.ones(1, 1, 2, 2)).round(decimals=3)
        tensor([-20.])
    """
    tiny = torch.finfo(torch.float32).tiny
    error = crop_like(image.float(), target) - target
    energies = (x.square().sum(dim=(1, 2, 3)).clamp(min=tiny) for x in (error, target.float()))
    after, before = (energy.log10() for energy in energies)
    return 10 * (after - before)
