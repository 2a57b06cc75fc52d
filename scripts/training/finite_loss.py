"""A diverged run must fail."""

from __future__ import annotations

import torch
from monai.engines import IterationEvents
from monai.utils import CommonKeys as Keys

from scripts.engines import Trainer


class FiniteLoss:
    """Handler that raises ValueError, naming iteration and volumes, when the loss is NaN or Inf.

    It runs before ``backward``, so the weights of the last good step are still in the network.
    List it after the handlers that change the loss.
    """

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Trainer) -> None:
        loss = engine.state.output[Keys.LOSS].detach()
        if not torch.isfinite(loss):
            volumes = ", ".join(engine.state.output[Keys.LABEL].get("volume", ["?"]))
            raise ValueError(
                f"iteration {engine.state.iteration}, volume {volumes}: expected a finite loss, found {float(loss)}"
            )
