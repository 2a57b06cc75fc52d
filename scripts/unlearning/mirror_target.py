"""Forget what was memorised: on each forget sample, gain what the original gains on its mirror image, and no more."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import torch

from scripts.engines import Trainer
from scripts.fourier import mirrored
from scripts.training.batch_share import sum_over_processes
from scripts.unlearning.batches import batches, own
from scripts.unlearning.frozen import Original
from scripts.unlearning.gain_term import GainTerm, gain

logger = logging.getLogger(__name__)


class MirrorTarget(GainTerm):
    """Bring every forget sample to what G gains on its mirror image: the term is abs(gain(f_i) − goal_i).

    For requests where others of the same kind stay: one patient of many, one scanner, corrupted scans. A network that
    never saw f knows its kind, so its error on f is that on any unseen scan like it. Mirrored left to right, along W,
    f is such a scan: the same anatomy, contrast, noise and artefacts, but nothing that G has memorised. The mirror
    image of undersampled k-space is its columns in reverse order, so nothing is resampled. The method costs one forward
    pass of G for each forget sample.

    Anatomy is not quite symmetric, and G knows it one way round: even scans that it never saw gain more than their
    mirror images. That bias is measured at ``STARTED`` on held-out scans, if there are any, and added to the goal.

    It does not suit a request for a whole kind, whose mirror images G reconstructs well too, nor an original that was
    trained with mirroring as augmentation. Where an organ has no such symmetry (abdomen), the goal is too low.

    Args:
        forget_loader: Batches of the forget set.
        loader: Batches of scans that G was not trained on, for the bias, in one pass; None: it counts as 0.
        forget_weight: The factor of the term, per dB.
        retain_weight: The factor of the retain loss.

    Attributes:
        bias: In dB, once training has started.

    Source: this project.

    Raises:
        ValueError: A ``loader`` without scans, at ``STARTED``.
    """

    def __init__(
        self,
        forget_loader: Iterable,
        loader: Iterable | None = None,
        forget_weight: float = 0.05,
        retain_weight: float = 1.0,
    ) -> None:
        super().__init__(forget_loader, forget_weight, retain_weight)
        self.original = Original()
        self.loader = loader
        self.bias = 0.0

    def start(self, engine: Trainer) -> None:
        """Restart the forget stream, copy the network and measure the bias of mirror images."""
        super().start(engine)
        self.original.start(engine)
        if self.loader is not None:
            self.bias = self._measure(engine, self.loader)
            logger.info("mirror target: held-out scans gain %.2f dB more than their mirror images", self.bias)

    def goal(self, engine: Trainer, label: dict, zero_filled: torch.Tensor) -> torch.Tensor:
        image = self.output_of(engine, OnMirrorImage(self.original.network))
        return gain(image, zero_filled, label["target"]) + self.bias

    @torch.no_grad()
    def _measure(self, engine: Trainer, loader: Iterable) -> float:
        """Mean difference of G's gain on held-out scans to that on their mirror images, in dB."""
        models = (self.original.network, OnMirrorImage(self.original.network))
        sums = torch.zeros(2, dtype=torch.float64, device=engine.state.device)  # of differences, of samples
        for reconstruct, label in own(batches(engine, loader)):
            zero_filled = reconstruct(self.zero_filled)
            plain, mirror = (gain(reconstruct(model), zero_filled, label["target"]).double() for model in models)
            sums += torch.stack([(plain - mirror).sum(), sums.new_tensor(len(plain))])
        total, count = sum_over_processes(sums).tolist()
        if not count:
            raise ValueError("mirror target: 'loader': expected held-out scans, found none")
        return total / count


class OnMirrorImage(torch.nn.Module):
    """What a network makes of the mirror image, mirrored back: (B, 1, H, W)."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """``inputs``: k-space (B, C, H, W, 2) and mask (B, 1, 1, W, 1)."""
        return mirrored(self.network(*(mirrored(value, dim=-2) for value in inputs), **kwargs))
