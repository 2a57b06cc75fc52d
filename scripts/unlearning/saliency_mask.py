"""Saliency unlearning: only the weights that matter for the forget set may move."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from scripts.run.engines import Trainer
from scripts.unlearning.arguments import check_share
from scripts.unlearning.batches import mean_gradient
from scripts.unlearning.step_scale import StepScale


class SaliencyMask(StepScale):
    """Handler that keeps at θ0 all weights outside the top-k of abs(∇J(f)), the gradient over the whole forget set.

    SalUn is this with :class:`NoisyLabel` and the retain loss; it combines with any other method too.

    Args:
        forget_loader: Batches of the forget set; one pass is made at ``STARTED``.
        share: The share k of all weights that may move, in [0, 1].

    Source: Fan et al. 2024 (SalUn), equation 4.

    Raises:
        ValueError: ``share`` is out of range.
    """

    def __init__(self, forget_loader: Iterable, share: float = 0.5) -> None:
        super().__init__()
        check_share("saliency mask", share=share)
        self.forget_loader = forget_loader
        self.share = share

    def choose(self, engine: Trainer) -> dict[str, torch.Tensor]:
        saliency = {name: value.abs() for name, value in mean_gradient(engine, self.forget_loader).items()}
        return {name: mask.float() for name, mask in largest(saliency, self.share).items()}


def largest(values: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Masks (bool) of the largest values, a share of all of them together; ties are broken by position.

    Example:
        >>> largest({"a": torch.tensor([1.0, 4.0]), "b": torch.tensor([3.0, 2.0])}, share=0.5)
        {'a': tensor([False,  True]), 'b': tensor([ True, False])}
    """
    flat = torch.cat([value.flatten() for value in values.values()])
    chosen = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    chosen[flat.argsort(descending=True, stable=True)[: round(share * len(flat))]] = True
    parts = chosen.split([value.numel() for value in values.values()])
    return {name: part.view_as(values[name]) for name, part in zip(values, parts, strict=True)}
