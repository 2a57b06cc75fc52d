"""Two targets in one run: one for scans of a kind that goes as a whole, another for those that are one of many."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from scripts.data.volumes import Volume
from scripts.engines import Trainer
from scripts.unlearning.gain_term import GainTerm


class TargetPerScan(GainTerm):
    """Bring every forget sample to the goal of its own target: the term is abs(gain(f_i) − goal_i).

    A request may take a whole organ and one patient of another. What an oracle would do differs between the two: it
    never saw the organ, but knows the kind of the patient's scans.

    Args:
        forget_loader: The batches of the forget set.
        kind_target: The target of all samples but those of ``members``.
        member_target: The target of the samples of ``members``.
        members: The forget scans of a kind that stays.
        forget_weight: The factor of the term, per dB.
        retain_weight: The factor of the retain loss.

    Source: this project.
    """

    def __init__(
        self,
        forget_loader: Iterable,
        kind_target: GainTerm,
        member_target: GainTerm,
        members: Iterable[Volume],
        forget_weight: float = 0.05,
        retain_weight: float = 1.0,
    ) -> None:
        super().__init__(forget_loader, forget_weight, retain_weight)
        self.targets = (kind_target, member_target)
        self.members = {volume.name for volume in members}

    def start(self, engine: Trainer) -> None:
        """Restart the forget stream and let both targets measure what they need."""
        for target in self.targets:
            target.start(engine)
        super().start(engine)

    def take(self, engine: Trainer, batch: dict) -> dict:
        """Make a batch the current one, for both targets, too."""
        for target in self.targets:
            target.take(engine, batch)
        return super().take(engine, batch)

    def goal(self, engine: Trainer, label: dict, zero_filled: torch.Tensor) -> torch.Tensor:
        kind, member = (target.goal(engine, label, zero_filled) for target in self.targets)
        of_members = torch.tensor([name in self.members for name in label["volume"]], device=zero_filled.device)
        return torch.where(of_members, member, kind)
