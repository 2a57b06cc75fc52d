"""A diverged run must fail."""

from __future__ import annotations

import torch
from ignite.engine import Events
from monai.engines import IterationEvents
from monai.utils import CommonKeys as Keys

from scripts.run.engines import Trainer

STEPS = 50  # between two looks at the losses of another device, each of which waits for that device


class FiniteLoss:
    """Handler that raises ValueError, naming iteration and volumes, when the loss is NaN or Inf.

    On a CPU it looks at each loss before ``backward``, so the weights of the last good step are still in the network.
    Elsewhere it looks at the losses of some steps at once, and always in the last step of an epoch, so a diverged run
    ends before its weights are evaluated or saved. List it after the handlers that change the loss.

    Args:
        every: Steps from one look to the next; None: 1 on a CPU, 50 elsewhere.
    """

    def __init__(self, every: int | None = None) -> None:
        self.every = every
        self._losses: list[tuple[int, list[str], torch.Tensor]] = []

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, lambda engine: self._losses.clear())
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, lambda engine: self.check())

    def __call__(self, engine: Trainer) -> None:
        loss = engine.state.output[Keys.LOSS].detach()
        volumes = engine.state.output[Keys.LABEL].get("volume", ["?"])
        self._losses.append((engine.state.iteration, volumes, loss))
        every = self.every or (1 if loss.device.type == "cpu" else STEPS)
        if len(self._losses) >= every or engine.state.iteration % engine.state.epoch_length == 0:
            self.check()

    def check(self) -> None:
        """Look at the losses since the last look."""
        losses, self._losses = self._losses, []
        values = torch.stack([loss for _, _, loss in losses]).tolist() if losses else []
        for (iteration, volumes, _), value in zip(losses, values, strict=True):
            if not abs(value) < float("inf"):
                raise ValueError(
                    f"iteration {iteration}, volume {', '.join(volumes)}: expected a finite loss, found {value}"
                )
