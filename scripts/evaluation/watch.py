"""What is shown of a training while it goes on, without a say in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import ignite.distributed as idist
from ignite.engine import Events
from torch.utils.tensorboard import SummaryWriter

from scripts.data.volumes import Volume
from scripts.evaluation.reconstruct import measure_models, spread
from scripts.networks.weights import unwrap
from scripts.run.engines import Trainer, loss_of
from scripts.run.kinds import Count

logger = logging.getLogger(__name__)
EVERY = 10  # steps between two readings of the loss: each waits for the device


class Watch:
    """Handler that writes loss and rate to TensorBoard, and after each part of the run the quality on held-out scans.

    It changes nothing that the run depends on: the masks of the held-out scans are fixed, no random number is drawn,
    and the network's mode is put back. What it reads is not counted as read by the training. Of several processes each
    reconstructs a share, and the first one writes.

    Args:
        log_dir: The folder for TensorBoard.
        volumes: Scans that stay and are not trained on; none: only loss and rate.
        transform: Undersamples a slice of them, with fixed masks.
        slices: The most slices that are reconstructed.
    """

    def __init__(
        self, log_dir: str | Path, volumes: Sequence[Volume], transform: Callable[[dict], dict], slices: Count = 12
    ) -> None:
        self.log_dir = str(log_dir)
        self.slices = spread(volumes, slices)
        self.transform = transform
        self.writer: SummaryWriter | None = None

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.ITERATION_COMPLETED(every=EVERY), self._step)
            engine.add_event_handler(Events.COMPLETED, self._close)

    def _start(self, engine: Trainer) -> None:
        self.writer = SummaryWriter(self.log_dir)

    def _step(self, engine: Trainer) -> None:
        assert self.writer is not None
        step, loss = engine.state.iteration, loss_of(engine.state.output)
        assert loss is not None
        self.writer.add_scalar("unlearning_loss", float(loss), step)
        self.writer.add_scalar("rate", engine.optimizer.param_groups[0]["lr"], step)

    def __call__(self, engine: Trainer) -> None:
        """Measure the network on the held-out slices."""
        if not self.slices:
            return
        share = self.slices[idist.get_rank() :: idist.get_world_size()]
        network = unwrap(engine.network)
        modes = {module: module.training for module in network.modules()}
        results = measure_models(
            {"network": network}, {"held-out": share}, self.transform, engine.state.device, report=False
        )
        for module, mode in modes.items():
            module.training = mode
        if self.writer is None:
            return
        found: dict[str, Any] = {name: fmean(r.value(name) for r in results) for name in ("psnr", "ssim")}
        for name, value in found.items():
            self.writer.add_scalar(f"held_out_{name}", value, engine.state.iteration)
        logger.info(
            "part %d of %d: held-out retained scans %.1f dB, SSIM %.3f",
            engine.state.epoch, engine.state.max_epochs, found["psnr"], found["ssim"],
        )  # fmt: skip

    def _close(self, engine: Trainer) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None
