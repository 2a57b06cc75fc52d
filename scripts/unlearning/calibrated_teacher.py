"""A weak blind teacher, calibrated to the strength of the original."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

import torch
from ignite.engine import Events

from scripts.kspace.fourier import crop_like
from scripts.run.engines import Trainer
from scripts.training.batch_share import sum_over_processes
from scripts.unlearning.batches import batches, own
from scripts.unlearning.frozen import Original, Reconstruct, Teacher

logger = logging.getLogger(__name__)


class CalibratedTeacher:
    """Handler and teacher: y* = (1 − a)·G(x) + a·T(x), with a measured on retain data alone at ``STARTED``.

    After a short training T has a larger error than the oracle on all data. If the excess is a constant factor, the
    retain data give it: a = rms(G(x_r) − y_r) / rms(T(x_r) − y_r), at most 1. As G has almost no error on what it was
    trained on, y* − y is then about a·(T(x) − y) on the forget set: the blind error without the excess. List it after
    its teacher and before the handlers that use it.

    Args:
        teacher: The teacher T.
        loader: Batches of the retain set, on which a is measured in one pass.
        weight: The share a of the teacher; None: it is measured. A share above 1 leads away from G.

    Attributes:
        weight: The share a; NaN before it is measured.

    Source: this project.
    """

    def __init__(self, teacher: Teacher, loader: Iterable | None = None, weight: float | None = None) -> None:
        if (loader is None) == (weight is None):
            raise ValueError("calibrated teacher: expected either 'loader' or 'weight', found both or neither")
        self.teacher = teacher
        self.loader = loader
        self.weight = math.nan if weight is None else weight
        self.original = Original()

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self.start)

    def start(self, engine: Trainer) -> None:
        """Copy G and measure a."""
        self.original.start(engine)
        if self.loader is not None:
            self.weight = self._measure(engine, self.loader)
            logger.info("calibrated teacher: a = %.3f", self.weight)

    def image(self, reconstruct: Reconstruct) -> torch.Tensor:
        """y* (B, 1, H, W); ``reconstruct`` maps a network to its output on a batch."""
        return (1 - self.weight) * self.original.image(reconstruct) + self.weight * self.teacher.image(reconstruct)

    def _measure(self, engine: Trainer, loader: Iterable) -> float:
        teachers = (self.original, self.teacher)
        squares = torch.zeros(2, dtype=torch.float64, device=engine.state.device)
        for reconstruct, label in own(batches(engine, loader)):
            for i, teacher in enumerate(teachers):
                error = crop_like(teacher.image(reconstruct), label["target"]) - label["target"]
                relative = error / label["max_value"].view(-1, 1, 1, 1)
                squares[i] += relative.square().sum()
        original, blind = sum_over_processes(squares).tolist()
        ratio = (original / max(blind, torch.finfo(torch.float32).tiny)) ** 0.5
        return min(1.0, ratio)
