"""Distillation of the original on the retain set."""

from __future__ import annotations

from monai.engines import IterationEvents
from monai.utils import CommonKeys as Keys

from scripts.run.engines import Trainer
from scripts.training.batch_share import share_mean
from scripts.unlearning.arguments import check_positive
from scripts.unlearning.batches import batches
from scripts.unlearning.frozen import Original, loss_to_image


class RetainDistillation:
    """Handler that adds w·D(S(x_r), G(x_r)) to the retain loss at ``LOSS_COMPLETED``, D being J with G's image.

    The few reference images of the retain subset are memorised within some epochs. G's images of the same slices show
    what G does on brains in general, and keep the network close to it. List it before a method with a
    ``forget_loader``; it costs one forward pass of G for each retain slice.

    Args:
        weight: The factor w.

    Source: Hinton et al. 2015; as a retain term of unlearning Kurmanji et al. 2023 (SCRUB, its α).

    Raises:
        ValueError: ``weight`` is not above 0.
    """

    def __init__(self, weight: float = 1.0) -> None:
        check_positive("retain distillation", weight=weight)
        self.weight = weight
        self.original = Original()

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        self.original.attach(engine)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Trainer) -> None:
        ((reconstruct, label),) = batches(engine, [engine.state.batch])
        output = engine.state.output
        distances = loss_to_image(engine, output[Keys.PRED], label, self.original.image(reconstruct))
        output[Keys.LOSS] = output[Keys.LOSS] + self.weight * share_mean(distances, label)
