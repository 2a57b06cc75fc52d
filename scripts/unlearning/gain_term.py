"""The forget term of methods that bring each forget sample to a stated gain over the zero-filled image."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from scripts.kspace.fourier import crop_like
from scripts.networks.zero_filled import ZeroFilled
from scripts.run.engines import Trainer
from scripts.unlearning.forget_term import ForgetTerm


class GainTerm(ForgetTerm):
    """Base: the term is abs(gain(f_i) − goal_i), with the gain in PSNR over the zero-filled image, in dB.

    Args:
        forget_loader, forget_weight, retain_weight: The arguments of :class:`ForgetTerm`.
    """

    def __init__(
        self, forget_loader: Iterable | None = None, forget_weight: float = 1.0, retain_weight: float = 1.0
    ) -> None:
        super().__init__(forget_loader, forget_weight, retain_weight)
        self.zero_filled = ZeroFilled()

    def goal(self, engine: Trainer, label: dict, zero_filled: torch.Tensor) -> torch.Tensor | float:
        """Gain that the forget samples should reach, in dB: (B,), or one for all; called without gradient."""
        raise NotImplementedError

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        with torch.no_grad():
            zero_filled = self.output_of(engine, self.zero_filled)
            goal = self.goal(engine, label, zero_filled)
        return (gain(prediction, zero_filled, label["target"]) - goal).abs()


def gain(image: torch.Tensor, zero_filled: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Gain in PSNR over the zero-filled image, 10·log10(its mean squared error / that of the image), in dB.

    Args:
        image: The reconstruction, (B, 1, H, W).
        zero_filled: The zero-filled image, (B, 1, H, W).
        target: The reference image, (B, 1, h, w), h <= H, w <= W.

    Returns:
        (B,).

    Example:
        >>> gain(torch.full((1, 1, 1, 1), 1.1), torch.full((1, 1, 1, 1), 2.0), torch.ones(1, 1, 1, 1))
        tensor([20.0000])
    """
    tiny = torch.finfo(torch.float32).tiny
    before, after = (
        (crop_like(x.float(), target) - target).square().mean(dim=(1, 2, 3)).clamp(min=tiny)
        for x in (zero_filled, image)
    )
    return 10 * (before.log10() - after.log10())
