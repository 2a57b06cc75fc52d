"""Networks that must not change: copies of the original, and their images as labels."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Protocol

import torch
from ignite.engine import Events

from scripts.kspace.fourier import crop_like
from scripts.networks.weights import unwrap
from scripts.run.engines import Trainer

Reconstruct = Callable[[torch.nn.Module], torch.Tensor]  # a network -> its output (B, 1, H, W) on a given batch


class Teacher(Protocol):
    """A source of images to learn from: :class:`Original`, ``BlindTeacher``, ``CalibratedTeacher``."""

    def image(self, reconstruct: Reconstruct) -> torch.Tensor:
        """Image (B, 1, H, W) without gradient; ``reconstruct`` maps a network to its output on a batch."""


def freeze(network: torch.nn.Module) -> torch.nn.Module:
    """Freeze a network for good: evaluation mode, and no weight takes a gradient. Returns the network."""
    return network.eval().requires_grad_(False)


def frozen_copy(network: torch.nn.Module) -> torch.nn.Module:
    """A frozen copy of the bare network, on its device.

    Example:
        >>> network = torch.nn.Linear(1, 1)
        >>> any(weight.requires_grad for weight in frozen_copy(network).parameters())
        False
    """
    return freeze(copy.deepcopy(unwrap(network)))


class Original:
    """Handler that keeps G: a frozen copy of the network as it was at ``STARTED``."""

    def __init__(self) -> None:
        self.network: torch.nn.Module

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self.start)

    def start(self, engine: Trainer) -> None:
        """Copy the network."""
        self.network = frozen_copy(engine.network)

    def image(self, reconstruct: Reconstruct) -> torch.Tensor:
        """G's image (B, 1, H, W); ``reconstruct`` maps a network to its output on a batch."""
        with torch.no_grad():
            return reconstruct(self.network)


def loss_to_image(engine: Trainer, prediction: torch.Tensor, label: dict, image: torch.Tensor) -> torch.Tensor:
    """Distance D of two reconstructions: J with one of them as the reference image.

    Args:
        engine: The trainer, whose loss function is used.
        prediction: A reconstruction, (B, 1, H, W).
        label: The label of the batch. The size (h, w) of its target is what is compared; its maxima scale J.
        image: The image that takes the place of the target, (B, 1, H, W); no gradient flows into it.

    Returns:
        The distance of each sample, (B,).
    """
    target = crop_like(image.detach(), label["target"]).to(label["target"].dtype)
    return engine.loss_function(prediction, {**label, "target": target})
