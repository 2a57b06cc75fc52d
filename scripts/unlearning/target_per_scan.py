"""Several targets in one run: each forget scan has the one that fits what an oracle knows of scans like it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from scripts.data.volumes import Volume
from scripts.run.engines import Trainer
from scripts.unlearning.gain_term import GainTerm


class TargetPerScan(GainTerm):
    """Bring every forget sample to the goal of its own target: the term is abs(gain(f_i) − goal_i).

    A request may take a whole organ and one patient of another. What an oracle would do differs between the two: it
    never saw the organ, but knows the kind of the patient's scans.

    Args:
        forget_loader: The batches of the forget set.
        targets: The target of each part of the forget set.
        parts: The volumes of each part, see :meth:`scripts.requests.Cohorts.by_part`; targets of others are not used.
        forget_weight: The factor of the term, per dB.
        retain_weight: The factor of the retain loss.

    Source: this project.
    """

    def __init__(
        self,
        forget_loader: Iterable,
        targets: Mapping[str, GainTerm],
        parts: Mapping[str, Iterable[Volume]],
        forget_weight: float = 0.05,
        retain_weight: float = 1.0,
    ) -> None:
        super().__init__(forget_loader, forget_weight, retain_weight)
        self.targets = {part: targets[part] for part in parts}
        self.part = {volume.name: part for part, volumes in parts.items() for volume in volumes}

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
