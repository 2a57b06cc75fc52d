"""Forget until the gain over the zero-filled image is that of a network that never saw such data, and no further."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

import torch

from scripts.networks.weights import unwrap
from scripts.run.engines import Trainer
from scripts.training.batch_share import sum_over_processes
from scripts.unlearning.arguments import check_positive
from scripts.unlearning.batches import batches, own
from scripts.unlearning.gain_term import GainTerm, gain

logger = logging.getLogger(__name__)


class GainTarget(GainTerm):
    """Bring every forget sample to a stated gain in PSNR over its zero-filled image: the term is abs(gain(f_i) − t·g).

    For requests that take a whole kind away (an organ). g is what G gains on retain data that it was not trained on,
    measured at ``STARTED``; a network that never saw the kind keeps a small share t of it there. So the target needs
    neither a teacher nor an oracle: only t, whose default was found on data of another geometry (see
    ``docs/methods.md``).

    Args:
        forget_loader: Batches of the forget set.
        loader: Batches of held-out retain data, on which g is measured in one pass.
        transfer: The share t of the gain.
        gain: The gain g in dB, in place of ``loader``.
        forget_weight: The factor of the term, per dB.
        retain_weight: The factor of the retain loss.

    Attributes:
        gain: The gain g in dB; NaN before it is measured.

    Source: this project.

    Raises:
        ValueError: Both or neither of ``loader`` and ``gain`` are given, ``transfer`` is not above 0, or there are no
            held-out data.
    """

    def __init__(
        self,
        forget_loader: Iterable,
        loader: Iterable | None = None,
        transfer: float = 0.3,
        gain: float | None = None,
        forget_weight: float = 0.05,
        retain_weight: float = 1.0,
    ) -> None:
        super().__init__(forget_loader, forget_weight, retain_weight)
        if (loader is None) == (gain is None):
            raise ValueError("gain target: expected either 'loader' or 'gain', found both or neither")
        check_positive("gain target", transfer=transfer)
        self.loader = loader
        self.transfer = transfer
        self.gain = math.nan if gain is None else gain

    def start(self, engine: Trainer) -> None:
        """Restart the forget stream and measure g."""
        super().start(engine)
        if self.loader is not None:
            self.gain = self._measure(engine, self.loader)
            logger.info("gain target: %.2f dB on held-out retain data, so %.2f dB on the forget set", self.gain,
                        self.transfer * self.gain)  # fmt: skip

    def goal(self, engine: Trainer, label: dict, zero_filled: torch.Tensor) -> float:
        return self.transfer * self.gain

    @torch.no_grad()
    def _measure(self, engine: Trainer, loader: Iterable) -> float:
        network = unwrap(engine.network).eval()
        sums = torch.zeros(2, dtype=torch.float64, device=engine.state.device)  # of gains, of samples
        for reconstruct, label in own(batches(engine, loader)):
            gains = gain(reconstruct(network), reconstruct(self.zero_filled), label["target"]).double()
            sums += torch.stack([gains.sum(), sums.new_tensor(len(gains))])
        total, count = sum_over_processes(sums).tolist()
        if not count:
            raise ValueError("gain target: 'loader': expected held-out retain data, found none")
        return total / count
