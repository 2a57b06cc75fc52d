"""Gradient clipping."""

from __future__ import annotations

import torch
from monai.engines import IterationEvents

from scripts.run.engines import Trainer


class ClipGradient:
    """Handler that scales the gradient down to ``max_norm`` (l2, over all weights) at ``BACKWARD_COMPLETED``.

    Under mixed precision the gradients are unscaled first.

    Args:
        max_norm: The largest norm that is kept, above 0; the paper uses 0.5.
    """

    def __init__(self, max_norm: float) -> None:
        if not max_norm > 0:
            raise ValueError(f"gradient clipping: 'max_norm': expected above 0, found {max_norm}")
        self.max_norm = max_norm

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Trainer) -> None:
        if getattr(engine, "amp", False) and engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self.max_norm)
