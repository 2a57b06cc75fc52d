"""Forget to a stated gain over the zero-filled image, that of a network that never saw such data, and no further."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from scripts.data.volumes import Volume
from scripts.kspace.fourier import crop_like
from scripts.networks import ZeroFilled
from scripts.networks.weights import unwrap
from scripts.run.engines import Trainer
from scripts.run.kinds import NotNegative, Positive
from scripts.training.batch_share import sum_over_processes
from scripts.unlearning.passes import batches, own
from scripts.unlearning.terms import ForgetTerm

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False, repr=False)
class GainTerm(ForgetTerm):
    """Base: the term is abs(gain(f_i) − goal_i), with the gain in PSNR over the zero-filled image, in dB.

    ``forget_weight`` is per dB.
    """

    forget_weight: NotNegative = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        self.zero_filled = ZeroFilled()

    def goal(self, engine: Trainer, label: dict, zero_filled: torch.Tensor) -> torch.Tensor | float:
        """Gain that the forget samples should reach, in dB: (B,), or one for all; called without gradient."""
        raise NotImplementedError

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        with torch.no_grad():
            zero_filled = self.output_of(engine, self.zero_filled)
            goal = self.goal(engine, label, zero_filled)
        return (gain(prediction, zero_filled, label["target"]) - goal).abs()


def gain(image: torch.Tensor, zero_filled: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Gain in PSNR over the zero-filled image, 10·log10(its mean squared error / that of the image), in dB.

    Args:
        image: The reconstruction, (B, 1, H, W).
        zero_filled: The zero-filled image, (B, 1, H, W).
        target: The reference image, (B, 1, h, w), h <= H, w <= W.

    Returns:
        (B,).

    Example:
        >>> gain(torch.full((1, 1, 1, 1), 1.1), torch.full((1, 1, 1, 1), 2.0), torch.ones(1, 1, 1, 1))
        tensor([20.0000])
    """
    tiny = torch.finfo(torch.float32).tiny
    before, after = (
        (crop_like(x.float(), target) - target).square().mean(dim=(1, 2, 3)).clamp(min=tiny)
        for x in (zero_filled, image)
    )
    return 10 * (before.log10() - after.log10())


@dataclass(kw_only=True, eq=False, repr=False)
class GainTarget(GainTerm):
    """Bring every forget sample to a stated gain in PSNR over its zero-filled image: the term is abs(gain(f_i) − t·g).

    For requests that take a whole kind away (an organ). g is what G gains on retain data that it was not trained on,
    measured at ``STARTED``; a network that never saw the kind keeps a small share t of it there. So the target needs
    neither a teacher nor an oracle: only t, whose default was found on data of another geometry.

    Args:
        loader: Batches of held-out retain data, on which g is measured in one pass.
        transfer: The share t of the gain.
        gain: The gain g in dB, in place of ``loader``; where that is given NaN before it is measured.

    Source: this project.

    Raises:
        ValueError: Both or neither of ``loader`` and ``gain`` are given, or there are no held-out data.
    """

    loader: Iterable | None = None
    transfer: Positive = 0.3
    gain: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.loader is None) == (self.gain is None):
            raise ValueError("gain target: expected either 'loader' or 'gain', found both or neither")
        self.gain = math.nan if self.gain is None else self.gain

    def start(self, engine: Trainer) -> None:
        """Restart the forget stream and measure g."""
        super().start(engine)
        if self.loader is not None:
            self.gain = g = self._measure(engine, self.loader)
            logger.info(
                "gain target: %.2f dB on held-out retain data, so %.2f dB on the forget set", g, self.transfer * g
            )

    def goal(self, engine: Trainer, label: dict, zero_filled: torch.Tensor) -> float:
        assert self.gain is not None
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


@dataclass(kw_only=True, eq=False, repr=False)
class TargetPerScan(GainTerm):
    """Bring every forget sample to the goal of its own target: the term is abs(gain(f_i) − goal_i).

    A request may take a whole organ and one patient of another. What an oracle would do differs between the two: it
    never saw the organ, but knows the kind of the patient's scans.

    Args:
        targets: The target of each part of the forget set.
        parts: The volumes of each part, see :meth:`scripts.requests.Cohorts.by_part`; targets of others are not used.

    Source: this project.
    """

    targets: Mapping[str, GainTerm]
    parts: Mapping[str, Iterable[Volume]]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.targets = {part: self.targets[part] for part in self.parts}
        self.part = {volume.name: part for part, volumes in self.parts.items() for volume in volumes}

    def start(self, engine: Trainer) -> None:
        """Restart the forget stream and let every target measure what it needs."""
        for target in self.targets.values():
            target.start(engine)
        super().start(engine)

    def take(self, engine: Trainer, batch: dict) -> dict:
        """Make a batch the current one, for every target, too."""
        for target in self.targets.values():
            target.take(engine, batch)
        return super().take(engine, batch)

    def goal(self, engine: Trainer, label: dict, zero_filled: torch.Tensor) -> torch.Tensor:
        """Each sample's goal in dB: (B,)."""
        goals = torch.zeros(len(zero_filled), device=zero_filled.device)
        for part, target in self.targets.items():
            own = torch.tensor([self.part[name] == part for name in label["volume"]], device=zero_filled.device)
            if own.any():
                goals = torch.where(own, target.goal(engine, label, zero_filled), goals)
        return goals
