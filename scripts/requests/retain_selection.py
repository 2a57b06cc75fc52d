"""Rules that look at the retain set before they draw the retain subset, and say how much of it they read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from scripts.data.volumes import Volume
from scripts.requests.retain_subset import draw_retain_subset


class Features(Protocol):
    """What describes volumes by vectors, e.g. ``scripts.unlearning.EncoderFeatures``."""

    slices_per_volume: int

    def __call__(self, volumes: Sequence[Volume]) -> np.ndarray:
        """Vectors (volumes, D); at most ``slices_per_volume`` slices of each volume are read."""


class KCentre:
    """The subset that leaves no volume far away: each next volume is the one farthest from those drawn so far.

    Distances are Euclidean between features, each scaled to unit variance. It reads features of the whole retain set.

    Args:
        features: Describes the volumes.

    Source: Sener and Savarese 2018, k-centre greedy.
    """

    def __init__(self, features: Features) -> None:
        self.features = features

    def __call__(self, volumes: Sequence[Volume], fraction: float, seed: int) -> list[Volume]:
        first = draw_retain_subset(volumes, fraction, seed)  # its size, its checks and a seeded beginning
        points = _scaled(self.features(volumes))
        chosen = [list(volumes).index(first[int(np.random.default_rng(seed).integers(len(first)))])]
        distances = np.linalg.norm(points - points[chosen[0]], axis=1)
        while len(chosen) < len(first):
            distances[chosen] = -1.0
            chosen.append(int(distances.argmax()))
            distances = np.minimum(distances, np.linalg.norm(points - points[chosen[-1]], axis=1))
        return [volumes[i] for i in sorted(chosen)]

    def report(self, volumes: Sequence[Volume]) -> dict:
        """Rule and cost."""
        return {"rule": "k-centre", "slices_read": _slices_read(self.features, volumes)}


class NearestToForget:
    """Half of the subset are the volumes nearest to a forget volume, the others random and stratified.

    Distances as in :class:`KCentre`. It reads features of the whole retain set and of the forget set.

    Args:
        features: Describes the volumes.
        forget: The forget set.
    """

    def __init__(self, features: Features, forget: Sequence[Volume]) -> None:
        self.features = features
        self.forget = list(forget)

    def __call__(self, volumes: Sequence[Volume], fraction: float, seed: int) -> list[Volume]:
        count = len(draw_retain_subset(volumes, fraction, seed))
        points = _scaled(self.features([*volumes, *self.forget]))
        retain, forget = points[: len(volumes)], points[len(volumes) :]
        distances = np.linalg.norm(retain[:, None] - forget[None], axis=2).min(axis=1)
        chosen = set(distances.argsort(kind="stable")[: math.ceil(count / 2)].tolist())
        others = [i for i in range(len(volumes)) if i not in chosen]
        if count > len(chosen):
            rest = draw_retain_subset([volumes[i] for i in others], (count - len(chosen)) / len(others), seed)
            names = {volume.name for volume in rest}
            chosen |= {i for i in others if volumes[i].name in names}
        return [volumes[i] for i in sorted(chosen)]

    def report(self, volumes: Sequence[Volume]) -> dict:
        """Rule and cost."""
        return {"rule": "nearest to forget and random", "slices_read": _slices_read(self.features, volumes)}


def _scaled(points: np.ndarray) -> np.ndarray:
    spread = points.std(axis=0)
    return (points - points.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def _slices_read(features: Features, volumes: Sequence[Volume]) -> int:
    return sum(min(features.slices_per_volume, volume.num_slices) for volume in volumes)
