"""What is added to the loss on the trainer's own batch: penalties and retain terms."""

from __future__ import annotations

import torch
from monai.engines import IterationEvents
from monai.utils import CommonKeys as Keys
from torch import Tensor

from scripts.kspace.fourier import crop_like
from scripts.run.engines import Trainer
from scripts.training.batch_share import share_mean
from scripts.unlearning.arguments import check_positive
from scripts.unlearning.passes import batches
from scripts.unlearning.teachers import Original, loss_to_image


class L1Penalty:
    """Handler that adds γ‖θ‖₁ over all trained weights to the loss at ``LOSS_COMPLETED`` (Xue 2024; Jia 2023).

    Args:
        gamma: The factor γ, in units of the loss.
    """

    exact = True  # reads nothing but the batches

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Trainer) -> None:
        norm = sum(weight.abs().sum() for weight in engine.network.parameters() if weight.requires_grad)
        engine.state.output[Keys.LOSS] = engine.state.output[Keys.LOSS] + self.gamma * norm


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

    exact = True  # reads nothing but the batches

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
