"""How far two networks are apart: in their weights, in what they represent, and in their images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from scripts.audit.hallucination import Seen
from scripts.audit.measure import (
    AUDITED,
    ORACLE,
    ORIGINAL,
    TREATED,
    Measure,
    figure,
    oracle_names,
    references,
    with_interval,
)
from scripts.audit.quality import NO_ORACLE
from scripts.audit.statistics import NOT_MEASURED, Statistics, is_measured, not_measured
from scripts.data.volumes import Volume
from scripts.evaluation.bootstrap import ratio_with_interval
from scripts.evaluation.reconstruct import Models, each_slice, spread
from scripts.evaluation.results import Results
from scripts.evaluation.table import Table, number


def weight_distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """‖θ₁ − θ₂‖₂ / ‖θ₂‖₂ over all weights, real or complex, a fraction; whole numbers, which count batches, are none.

    Args:
        first: The state dict of a network; what it has under several names counts once.
        second: That of the reference network, with the same keys and shapes.

    Raises:
        ValueError: differing keys, or a second network of zeros.

    >>> weight_distance({"w": torch.tensor([3.0, 4.4])}, {"w": torch.tensor([3.0, 4.0])})
    0.08...
    """
    if first.keys() != second.keys():
        raise ValueError(f"weights differ in their keys: {sorted(first.keys() ^ second.keys())[:5]}")
    once: dict[tuple, tuple[Tensor, Tensor]] = {}
    for key, value in second.items():
        if value.is_floating_point() or value.is_complex():
            places = first[key].data_ptr(), value.data_ptr(), value.shape
            double = torch.promote_types(value.dtype, torch.float64)
            once.setdefault(places, (first[key].to("cpu", double), value.to("cpu", double)))
    apart = sum(float((one - other).abs().square().sum()) for one, other in once.values())
    norm = sum(float(other.abs().square().sum()) for _, other in once.values())
    if norm == 0:
        raise ValueError("weights: the reference network's are all zero")
    return (apart / norm) ** 0.5


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Linear centred kernel alignment of two sets of features: 1 for equal ones up to rotation and scale.

    Args:
        first: (n, p) features of n samples.
        second: (n, q) features of the same samples in another network.

    Returns:
        0 ... 1; NaN where the features of either do not vary. It is biased upwards where n is small beside p, q.

    Source: Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019, eq. for linear CKA.

    >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    >>> round(linear_cka(x, 3 * x.flip(1)), 6)
    1.0
    """
    first, second = first.double() - first.double().mean(0), second.double() - second.double().mean(0)
    cross = (first.T @ second).square().sum()
    scale = torch.linalg.norm(first.T @ first) * torch.linalg.norm(second.T @ second)
    return float(cross / scale)


def relative_distance(first: Tensor, second: Tensor, target: Tensor) -> float:
    """‖x₁ − x₂‖₂ / ‖y‖₂ of two reconstructions of one slice, a fraction.

    Args:
        first: a reconstruction.
        second: Another one, of the same shape.
        target: The reference image, of that shape.

    >>> relative_distance(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.0]), torch.tensor([0.0, 6.0]))
    0.5
    """
    return float(torch.linalg.norm((first - second).double()) / torch.linalg.norm(target.double()))


def output_distances(
    found: Mapping[str, Mapping[str, Mapping[str, float]]], patients: Mapping[str, str], statistics: Statistics
) -> dict:
    """The audited model's distances beside those of the other oracles.

    Args:
        found: cohort -> model -> volume -> distance: the audited model's to the oracle, on the forgotten kind to the
            treated oracle if there is one, and that of each other oracle to the oracle.
        patients: volume -> patient.
        statistics: The settings of the intervals.

    Returns:
        Cohort -> ``model`` and ``oracles``, mean distances, and ``ratio`` of the two, which needs two oracles: 1 is as
        close as honest retraining.
    """
    if not found:
        return not_measured("no oracle weights")
    table = {}
    for cohort, distances in found.items():
        volumes = sorted(distances[AUDITED])
        own = [distances[AUDITED][volume] for volume in volumes]
        entry: dict = {"model": float(np.mean(own)), "oracles": None}
        entry["ratio"] = not_measured("it needs two oracles, the same training with other seeds")
        others = [other for name, other in distances.items() if name != AUDITED]
        if others:
            between = [float(np.mean([other[volume] for other in others])) for volume in volumes]
            entry["oracles"] = float(np.mean(between))
            entry["ratio"] = ratio_with_interval(own, between, [patients[v] for v in volumes], **statistics.draw)
        table[cohort] = entry
    return table


class OutputDistance(Measure):
    """How far the audited model's images lie from the oracle's, beside how far another oracle's do.

    Source: after Georgiev et al., Attribute-to-Delete, 2024 (arXiv 2410.23232), which compares the outputs of
    unlearned models with those of models that were trained without the forget set (KLoM).

    Args:
        cohorts: cohort -> volumes.
        transform: Undersamples a slice, see :class:`scripts.data.Undersample`.
        limit: The most slices that the measure may put through a network.
        device: Where to run the networks.
    """

    name = "output_distance"
    title = "Distance of the images to the oracle's"
    gates = (r"(BTA|KTA|UA)/ratio",)

    def __init__(
        self,
        cohorts: Mapping[str, Sequence[Volume]],
        transform: Callable[[dict], dict],
        limit: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.cohorts = {name: list(volumes) for name, volumes in cohorts.items() if volumes}
        self.transform, self.limit, self.device = transform, limit, device

    def slices(self, models: Models) -> int:
        """See :class:`scripts.audit.measure.Measure`."""
        chosen = sum(map(len, self._chosen(models).values()))
        return chosen * len(self._compared(models)) if ORACLE in models else 0

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        """See :func:`output_distances`."""
        chosen = self._chosen(models) if ORACLE in models else {}
        found = {c: self._distances(models, slices, references(models, c)[0]) for c, slices in chosen.items()}
        patients = {volume.name: volume.patient_id for volumes in self.cohorts.values() for volume in volumes}
        return output_distances(found, patients, statistics)

    def _distances(
        self, models: Models, slices: Sequence[tuple[Volume, int]], reference: str
    ) -> dict[str, dict[str, float]]:
        """Model -> volume -> mean over its slices of the distance: the audited model's to a reference, others' to the
        oracle."""
        others = {name: ORACLE for name in oracle_names(models) if name != ORACLE}
        found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in (AUDITED, *others)}
        for one in each_slice(self._compared(models), slices, self.transform, self.device):
            for name, volumes in found.items():
                to = one.images[others.get(name, reference)]
                distance = relative_distance(one.images[name], to, one.label["target"])
                volumes[one.label["volume"][0]].append(distance)
        return {name: {v: float(np.mean(d)) for v, d in volumes.items()} for name, volumes in found.items()}

    def _compared(self, models: Models) -> Models:
        return {name: models[name] for name in dict.fromkeys((AUDITED, *oracle_names(models), *references(models)))}

    def _chosen(self, models: Models) -> dict[str, list[tuple[Volume, int]]]:
        limit = max(self.limit // (len(self._compared(models)) * len(self.cohorts)), 1)
        return {name: spread(volumes, limit) for name, volumes in self.cohorts.items()}

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row a cohort."""
        rows = [
            [cohort, number(found["model"], 4), number(found["oracles"], 4), with_interval(found["ratio"])]
            for cohort, found in entry.items()
        ]
        note = "Relative l2 distance, mean over slices; the ratio needs a second oracle, and 1 is honest retraining."
        return Table(cls.title, note, ["cohort", "model to oracle", "oracle to oracle", f"ratio [{share}]"], rows)


class WeightDistance(Measure):
    """Distance of the audited model to original and oracle, in weights and in representation.

    Args:
        probe: Has seen the encoder features of every model.
        cohorts: cohort -> volumes.
    """

    name = "distance"
    title = "Weights and representation"

    def __init__(self, probe: Seen, cohorts: Mapping[str, Sequence[Volume]]) -> None:
        self.probe, self.cohorts = probe, cohorts

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        """Model -> ``weights`` and ``cka``, by cohort."""
        features = {name: run["features"] for name, run in self.probe.found.items()}
        table: dict = {}
        for reference in (ORIGINAL, ORACLE, *({TREATED} & models.keys())):
            if reference not in models:
                table[reference] = NO_ORACLE
                continue
            states = [models[name].state_dict() for name in (AUDITED, reference)]
            table[reference] = {"weights": weight_distance(*states), "cka": {}}
            for cohort in ("BTA", "KTA"):
                volumes = [volume.name for volume in self.cohorts.get(cohort, [])]
                if volumes and all(volume in features[AUDITED] for volume in volumes):
                    pair = [torch.cat([features[name][v] for v in volumes]) for name in (AUDITED, reference)]
                    table[reference]["cka"][cohort] = linear_cka(*pair)
        return table

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row a model."""
        rows = []
        for reference, found in entry.items():
            cells = [NOT_MEASURED] * 3
            if is_measured(found):
                cells = [number(found["weights"], 4), *(figure(found["cka"].get(c), 3) for c in ("BTA", "KTA"))]
            rows.append([f"to {reference}", *cells])
        columns = ["distance", "weights (relative l2)", "linear CKA, BTA", "linear CKA, KTA"]
        return Table(cls.title, "CKA of the encoder's last features: 1 is equal.", columns, rows)
