"""Handlers that any training uses: clipping, a stop at a diverged loss, progress on the terminal."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import ignite.distributed as idist
import torch
from ignite.engine import Events
from monai.engines import IterationEvents
from monai.utils import CommonKeys as Keys
from tqdm import tqdm

from scripts.run.engines import Handler, Trainer, Workflow, loss_of
from scripts.run.kinds import Count, Positive

logger = logging.getLogger(__name__)
LOOK_STEPS = 50  # between two looks at the losses of another device, each of which waits for that device
SECONDS = 1.0  # between two prints


@dataclass(eq=False, repr=False)
class ClipGradient(Handler):
    """Handler that scales the gradient down to ``max_norm`` (l2, over all weights) at ``BACKWARD_COMPLETED``.

    Under mixed precision the gradients are unscaled first.

    Args:
        max_norm: The largest norm that is kept; the paper uses 0.5.
    """

    event = IterationEvents.BACKWARD_COMPLETED
    max_norm: Positive

    def __call__(self, engine: Trainer) -> None:
        if getattr(engine, "amp", False) and engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self.max_norm)


@dataclass(eq=False, repr=False)
class FiniteLoss(Handler):
    """Handler that raises ValueError, naming iteration and volumes, when the loss is NaN or Inf.

    On a CPU it looks at each loss before ``backward``, so the weights of the last good step are still in the network.
    Elsewhere it looks at the losses of some steps at once, and always in the last step of an epoch, so a diverged run
    ends before its weights are evaluated or saved. List it after the handlers that change the loss.

    Args:
        every: Steps from one look to the next; None: 1 on a CPU, 50 elsewhere.
    """

    event = IterationEvents.LOSS_COMPLETED
    every: Count | None = None

    def start(self, engine: Trainer) -> None:
        """Forget the losses of an earlier run."""
        self._losses: list[tuple[int, list[str], torch.Tensor]] = []

    def __call__(self, engine: Trainer) -> None:
        loss = engine.state.output[Keys.LOSS].detach()
        volumes = engine.state.output[Keys.LABEL].get("volume", ["?"])
        self._losses.append((engine.state.iteration, volumes, loss))
        every = self.every or (1 if loss.device.type == "cpu" else LOOK_STEPS)
        if len(self._losses) >= every or engine.state.iteration % engine.state.epoch_length == 0:
            self.check()

    def finish(self, engine: Trainer) -> None:
        """Look at the last losses."""
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


def log_validation(engine: Workflow) -> None:
    """Say what an evaluator found after an epoch of the training that it belongs to."""
    found = engine.state.metrics
    logger.info("epoch %d: validation %.1f dB, SSIM %.3f", engine.state.epoch, found["psnr"], found["ssim"])


@dataclass(eq=False, repr=False)
class Progress(Handler):
    """Handler: one bar over the whole run with the time left and, in training, the first process's loss.

    Ignite's ``ProgressBar`` knows the length of an epoch only, so it cannot say when the run ends.

    Args:
        description: The text before the bar: what is being done.
    """

    event = Events.ITERATION_COMPLETED
    description: str
    bar: tqdm | None = None

    def start(self, engine: Workflow) -> None:
        """Show the bar."""
        self.finish(engine)
        total = engine.state.epoch_length * (engine.state.max_epochs - engine.state.epoch)
        quiet = idist.get_rank() > 0
        self.bar = tqdm(total=total, desc=self.description, mininterval=SECONDS, dynamic_ncols=True, disable=quiet)

    def __call__(self, engine: Workflow) -> None:
        if self.bar is None or self.bar.disable:  # a bar that is not shown keeps no times
            return
        if time.time() - self.bar.last_print_t >= self.bar.mininterval:  # reading the loss waits for the device
            loss = loss_of(engine.state.output)
            if loss is not None:
                self.bar.set_postfix(loss=f"{float(loss):.4f}", refresh=False)
        self.bar.update()

    def finish(self, engine: Workflow) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
