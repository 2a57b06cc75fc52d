"""Progress on the terminal."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

import ignite.distributed as idist
import torch
from ignite.engine import Events
from monai.utils import CommonKeys as Keys
from tqdm import tqdm

from scripts.run.engines import Workflow

logger = logging.getLogger(__name__)
SECONDS = 1.0  # between two prints


def loss_of(output: Mapping | Sequence[Mapping]) -> torch.Tensor | None:
    """The loss () in an engine's output, whether MONAI decollated it or not; None in evaluation.

    Example:
        >>> loss_of({"loss": torch.tensor(0.5, requires_grad=True)})
        tensor(0.5000)
    """
    first = output if isinstance(output, Mapping) else output[0]
    loss = first.get(Keys.LOSS)
    return None if loss is None else torch.as_tensor(loss).detach()


def log_validation(engine: Workflow) -> None:
    """Say what an evaluator found after an epoch of the training that it belongs to."""
    found = engine.state.metrics
    logger.info("epoch %d: validation %.1f dB, SSIM %.3f", engine.state.epoch, found["psnr"], found["ssim"])


class Progress:
    """Handler: one bar over the whole run with the time left and, in training, the first process's loss.

    Ignite's ``ProgressBar`` knows the length of an epoch only, so it cannot say when the run ends.

    Args:
        description: The text before the bar: what is being done.
    """

    def __init__(self, description: str) -> None:
        self.description = description
        self.bar: tqdm | None = None

    def attach(self, engine: Workflow) -> None:
        """Attach to a trainer or evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._close)

    def _start(self, engine: Workflow) -> None:
        self._close(engine)
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

    def _close(self, engine: Workflow) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
