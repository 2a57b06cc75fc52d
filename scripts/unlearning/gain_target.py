"""Forget until the gain over the zero-filled image is that of a network which never saw such data, and no further."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from ignite.engine import Engine

from scripts.fourier import center_crop
from scripts.networks.weights import unwrap
from scripts.networks.zero_filled import ZeroFilled
from scripts.training.batch_share import sum_over_processes
from scripts.unlearning.arguments import check_positive
from scripts.unlearning.batches import batches, own
from scripts.unlearning.forget_term import ForgetTerm

logger = logging.getLogger(__name__)


class GainTarget(ForgetTerm):
    """Bring every forget sample to a stated gain in PSNR over its zero-filled image: the term is abs(gain(f_i) − t·g).

    gain = 10·log10(MSE of the zero-filled image / MSE of the reconstruction), in dB. g is what G gains on retain data
    that it was not trained on, measured at ``STARTED``. Where others like those to be forgotten stay (one patient of
    many), a network that never saw them does as well on them: t = 1. Where a whole kind goes (an organ), it keeps a
    small share of the gain there. So the target needs neither a teacher nor an oracle: only t, whose default was found
    on data of another geometry (see ``docs/methods.md``).

    Args:
        forget_loader: batches of the forget set.
        loader: batches of held-out retain data, for g; one pass is made.
        transfer: t.
        gain: g itself in dB, in place of ``loader``.
        forget_weight: factor of the term, per dB.
        retain_weight: factor of the retain loss.

    Attributes:
        gain: g in dB, once training has started.

    Source: this project.

    Raises:
        ValueError: both or neither of ``loader`` and ``gain``; ``transfer`` not above 0; no held-out data.
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
        self.gain = gain
        self.zero_filled = ZeroFilled()

    def start(self, engine: Engine) -> None:
        """Begin the forget stream anew and measure g."""
        super().start(engine)
        if self.loader is not None:
            self.gain = self._measure(engine)
            logger.info("gain target: %.2f dB on held-out retain data, so %.2f dB on the forget set", self.gain,
                        self.transfer * self.gain)  # fmt: skip

    def term(self, engine: Engine, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        with torch.no_grad():
            zero_filled = self.output_of(engine, self.zero_filled)
        return (gain(prediction, zero_filled, label["target"]) - self.transfer * self.gain).abs()

    @torch.no_grad()
    def _measure(self, engine: Engine) -> float:
        network = unwrap(engine.network).eval()
        sums = torch.zeros(2, dtype=torch.float64, device=engine.state.device)  # of gains, of samples
        for reconstruct, label in own(batches(engine, self.loader)):
            gains = gain(reconstruct(network), reconstruct(self.zero_filled), label["target"]).double()
            sums += torch.stack([gains.sum(), sums.new_tensor(len(gains))])
        total, count = sum_over_processes(sums).tolist()
        if not count:
            raise ValueError("gain target: 'loader': expected held-out retain data, found none")
        return total / count


def gain(image: torch.Tensor, zero_filled: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Gain in PSNR over the zero-filled image, in dB.

    Args:
        image, zero_filled: (B, 1, H, W).
        target: (B, 1, h, w), h <= H, w <= W.

    Returns:
        (B,).

    Example:
        >>> gain(torch.full((1, 1, 1, 1), 1.1), torch.full((1, 1, 1, 1), 2.0), torch.ones(1, 1, 1, 1))
        tensor([20.0000])
    """
    tiny = torch.finfo(torch.float32).tiny
    before, after = (
        (center_crop(x.float(), target.shape[-2:]) - target).square().mean(dim=(1, 2, 3)).clamp(min=tiny)
        for x in (zero_filled, image)
    )
    return 10 * (before.log10() - after.log10())
