"""The retain subset D_r': a small part of the retain set, drawn by volume, that unlearning may read."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from torch.utils.data import Sampler

from scripts.data.slices import SliceDataset
from scripts.data.volumes import Volume


def draw_retain_subset(
    volumes: Sequence[Volume], fraction: float, seed: int, strata: Sequence[str] = ("anatomy", "acquisition")
) -> list[Volume]:
    """Draw a share of the volumes at random, stratified: whole volumes, not neighbouring slices.

    Args:
        volumes: The retain set.
        fraction: Share of the volumes, in (0, 1]; at least one is drawn.
        seed: Fixes the draw.
        strata: Fields whose combinations are the strata; each gives its share (largest remainders).

    Returns:
        The drawn volumes in the order of ``volumes``.

    Raises:
        ValueError: no volumes.
    """
    if not volumes:
        raise ValueError("retain subset: expected at least one retain volume, found none")
    rng = np.random.default_rng(seed)
    groups: dict[tuple, list[int]] = defaultdict(list)
    for index, volume in enumerate(volumes):
        groups[tuple(volume.fields.get(key, "") for key in strata)].append(index)
    total = max(1, round(fraction * len(volumes)))
    quotas = {key: fraction * len(members) for key, members in groups.items()}
    counts = {key: math.floor(quota) for key, quota in quotas.items()}
    by_remainder = sorted(groups, key=lambda key: (counts[key] - quotas[key], rng.random()))
    for key in by_remainder[: max(0, total - sum(counts.values()))]:
        counts[key] += 1
    chosen = [i for key, members in groups.items() for i in rng.permutation(members)[: counts[key]]]
    return [volumes[i] for i in sorted(chosen)]


def draw_patients(volumes: Sequence[Volume], share: float, seed: int) -> list[Volume]:
    """Draw a share of the patients, in (0, 1], at random with all their scans: what a reference model is trained on.

    A scan that names no patient counts as a patient of its own; at least one patient is drawn.
    """
    patients = list(dict.fromkeys(volume.patient_id or volume.name for volume in volumes))
    count = max(1, round(share * len(patients)))
    chosen = {patients[i] for i in np.random.default_rng(seed).permutation(len(patients))[:count]}
    return [volume for volume in volumes if (volume.patient_id or volume.name) in chosen]


class Stratified:
    """Random, stratified by fields; without any, plainly random. Reads no retain data.

    A rule draws volumes as :func:`draw_retain_subset` does, and reports its name and how many of D_r's slices it had to
    read.

    Args:
        strata: As for :func:`draw_retain_subset`.
    """

    def __init__(self, strata: Sequence[str] = ("anatomy", "acquisition")) -> None:
        self.strata = list(strata)

    def __call__(self, volumes: Sequence[Volume], fraction: float, seed: int) -> list[Volume]:
        return draw_retain_subset(volumes, fraction, seed, self.strata)

    def report(self, volumes: Sequence[Volume]) -> dict:
        """Rule and cost."""
        rule = f"random by {', '.join(self.strata)}" if self.strata else "random"
        return {"rule": rule, "slices_read": 0}


class ByFeatures:
    """A rule over Euclidean distances between features of the whole retain set, each scaled to unit variance.

    Args:
        features: Describes volumes by vectors (volumes, D), of at most ``features.slices_per_volume`` slices of each;
            e.g. ``scripts.unlearning.EncoderFeatures``.
    """

    rule = ""

    def __init__(self, features: Any) -> None:
        self.features = features

    def points(self, volumes: Sequence[Volume]) -> np.ndarray:
        """The scaled features, (volumes, D)."""
        points = self.features(volumes)
        spread = points.std(axis=0)
        return (points - points.mean(axis=0)) / np.where(spread > 0, spread, 1.0)

    def report(self, volumes: Sequence[Volume]) -> dict:
        """Rule and cost."""
        read = sum(min(self.features.slices_per_volume, volume.num_slices) for volume in volumes)
        return {"rule": self.rule, "slices_read": read}


class KCentre(ByFeatures):
    """The subset that leaves no volume far away: each next volume is the one farthest from those drawn so far.

    Source: Sener and Savarese 2018, k-centre greedy.
    """

    rule = "k-centre"

    def __call__(self, volumes: Sequence[Volume], fraction: float, seed: int) -> list[Volume]:
        first = draw_retain_subset(volumes, fraction, seed)  # its size, its checks and a seeded beginning
        points = self.points(volumes)
        chosen = [list(volumes).index(first[int(np.random.default_rng(seed).integers(len(first)))])]
        distances = np.linalg.norm(points - points[chosen[0]], axis=1)
        while len(chosen) < len(first):
            distances[chosen] = -1.0
            chosen.append(int(distances.argmax()))
            distances = np.minimum(distances, np.linalg.norm(points - points[chosen[-1]], axis=1))
        return [volumes[i] for i in sorted(chosen)]


class NearestToForget(ByFeatures):
    """Half of the subset are the volumes nearest to a forget volume, the others random and stratified.

    Args:
        features: Describes the volumes, those of the forget set too.
        forget: The forget set.
    """

    rule = "nearest to forget and random"

    def __init__(self, features: Any, forget: Sequence[Volume]) -> None:
        super().__init__(features)
        self.forget = list(forget)

    def __call__(self, volumes: Sequence[Volume], fraction: float, seed: int) -> list[Volume]:
        count = len(draw_retain_subset(volumes, fraction, seed))
        points = self.points([*volumes, *self.forget])
        retain, forget = points[: len(volumes)], points[len(volumes) :]
        distances = np.linalg.norm(retain[:, None] - forget[None], axis=2).min(axis=1)
        chosen = set(distances.argsort(kind="stable")[: math.ceil(count / 2)].tolist())
        others = [volume for i, volume in enumerate(volumes) if i not in chosen]
        rest = count - len(chosen)
        drawn = {v.name for v in draw_retain_subset(others, rest / len(others), seed)} if rest else set()
        return [volume for i, volume in enumerate(volumes) if i in chosen or volume.name in drawn]


class RetainSubsetSampler(Sampler[int]):
    """Shuffled slices of the retain subset.

    As a handler it begins each epoch with an order of its own at ``EPOCH_STARTED``. Where an epoch is longer than the
    subset, each further pass is again a new permutation. Seed, epoch and pass fix the order.

    Args:
        dataset: Slices of the whole retain set; volumes outside the subset are never read.
        fraction: Share of the volumes, in (0, 1].
        seed: Fixes the draw and the order.
        selection: The rule of the draw; None: :class:`Stratified`.

    Attributes:
        subset: The volumes drawn, D_r'.
        report: Rule of the draw, and how many slices it had to read.

    Raises:
        ValueError: see :func:`draw_retain_subset`.
    """

    def __init__(self, dataset: SliceDataset, fraction: float, seed: int = 0, selection: Any = None) -> None:
        self.dataset = dataset
        self.seed = seed
        selection = Stratified() if selection is None else selection
        self.subset = selection(dataset.volumes, fraction, seed)
        self.report = selection.report(dataset.volumes)
        names = {volume.name for volume in self.subset}
        self.indices = [i for i, (volume, _) in enumerate(dataset.slices) if volume.name in names]
        self.epoch = self.passes = 0

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch, self.passes))
        self.passes += 1
        return iter(rng.permutation(self.indices).tolist())

    def __len__(self) -> int:
        return len(self.indices)

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        self.epoch, self.passes = engine.state.epoch, 0

    def state_dict(self) -> dict:
        """What fixes, with the seed, the order of the next pass."""
        return {"epoch": self.epoch, "passes": self.passes}

    def load_state_dict(self, state: dict) -> None:
        """Go on with the order of a kept state."""
        self.epoch, self.passes = state["epoch"], state["passes"]
