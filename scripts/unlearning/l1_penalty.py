"""The l1 norm of the weights as a part of the loss."""

from __future__ import annotations

from monai.engines import IterationEvents
from monai.utils import CommonKeys as Keys

from scripts.run.engines import Trainer


class L1Penalty:
    """Handler that adds γ‖θ‖₁ over all trained weights to the loss at ``LOSS_COMPLETED`` (Xue 2024; Jia 2023).

    Args:
        gamma: The factor γ, in units of the loss.
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Trainer) -> None:
        norm = sum(weight.abs().sum() for weight in engine.network.parameters() if weight.requires_grad)
        engine.state.output[Keys.LOSS] = engine.state.output[Keys.LOSS] + self.gamma * norm
