"""Forget what was memorised: on each forget sample, gain what the original gains on its mirror image, and no more."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from scripts.engines import Trainer
from scripts.fourier import mirrored
from scripts.unlearning.frozen import Original
from scripts.unlearning.gain_term import GainTerm, gain


class MirrorTarget(GainTerm):
    """Bring every forget sample to what G gains on its mirror image: the term is abs(gain(f_i) − goal_i).

    For requests where others of the same kind stay: one patient of many, one scanner, corrupted scans. A network that
    never saw f knows its kind, so its error on f is that on any unseen scan like it. Mirrored left to right, along W,
    f is such a scan: the same anatomy, contrast, noise and artefacts, but nothing that G has memorised. The mirror
    image of undersampled k-space is its columns in reverse order, so nothing is resampled. The method costs one forward
    pass of G for each forget sample and reads no other data.

    It does not suit a request for a whole kind, whose mirror images G reconstructs well too, nor an original that was
    trained with mirroring as augmentation. Where an organ has no such symmetry (abdomen), the goal is too low.

    Args:
        forget_loader: Batches of the forget set.
        forget_weight: The factor of the term, per dB.
        retain_weight: The factor of the retain loss.

    Source: this project.
    """

    def __init__(self, forget_loader: Iterable, forget_weight: float = 0.05, retain_weight: float = 1.0) -> None:
        super().__init__(forget_loader, forget_weight, retain_weight)
        self.original = Original()

    def start(self, engine: Trainer) -> None:
        """Restart the forget stream and copy the network."""
        super().start(engine)
        self.original.start(engine)

    def goal(self, engine: Trainer, label: dict, zero_filled: torch.Tensor) -> torch.Tensor:
        inputs, args, kwargs = self._batch
        reverse = [mirrored(value, dim=-2) for value in (inputs, *args)]  # (B, C, H, W, 2), (B, 1, 1, W, 1)
        image = engine.inferer(reverse[0], self.original.network, *reverse[1:], **kwargs)
        return gain(mirrored(image), zero_filled, label["target"])
