"""Forget what was memorised: on each forget sample, make the image that the original makes of its mirror image."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from scripts.engines import Trainer
from scripts.unlearning.forget_term import ForgetTerm
from scripts.unlearning.frozen import Original, loss_to_image
from scripts.unlearning.mirror_target import OnMirrorImage


class MirrorImage(ForgetTerm):
    """Handler that teaches S(f) to be what G makes of f's mirror image: the term is D(S(f), mirrored G(mirrored f)).

    For requests where others of the same kind stay: one patient or a few. As with :class:`MirrorTarget` the mirror
    image of f, left to right, is a scan of the same anatomy, contrast, noise and artefacts that G has not memorised.
    Where that method asks for a number of dB, which any fault of the image may bring about, this one asks for an image
    with the faults of scans that G never saw. It costs one forward pass of G for each forget sample.

    It does not suit a request for a whole kind, whose mirror images G reconstructs well too, nor an original that was
    trained with mirroring as augmentation.

    Args:
        forget_loader: Batches of the forget set.
        forget_weight: The factor of the term.
        retain_weight: The factor of the retain loss.

    Source: this project.
    """

    def __init__(self, forget_loader: Iterable, forget_weight: float = 8.0, retain_weight: float = 1.0) -> None:
        super().__init__(forget_loader, forget_weight, retain_weight)
        self.original = Original()

    def start(self, engine: Trainer) -> None:
        """Restart the forget stream and copy the network."""
        super().start(engine)
        self.original.start(engine)

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        with torch.no_grad():
            image = self.output_of(engine, OnMirrorImage(self.original.network))
        return loss_to_image(engine, prediction, label, image)
