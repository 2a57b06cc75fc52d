"""What the audited model makes of other acquisitions, and how far its images lie from the oracle's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from scripts.audit.measure import (
    AUDITED,
    NO_ORACLE,
    ORACLE,
    Given,
    Sampled,
    Statistics,
    highest,
    not_measured,
    oracle_names,
    references,
    with_interval,
)
from scripts.audit.quality import gap
from scripts.data.slices import Undersample
from scripts.data.volumes import Volume
from scripts.evaluation.bootstrap import ratio_with_interval
from scripts.evaluation.reconstruct import Models, each_slice, measure_models
from scripts.evaluation.results import Results
from scripts.evaluation.table import DECIMALS, HEADINGS, Table, number
from scripts.kspace.masks import ColumnMask, RandomMask

METRICS = ("psnr", "ssim")


def other_masks(mask: ColumnMask) -> dict[str, ColumnMask]:
    """Two other accelerations of the same pattern, two thirds and three halves of its own, and random columns.

    >>> from scripts.data import EquispacedFractionMask
    >>> list(other_masks(EquispacedFractionMask(acceleration=3, center_fraction=0.08)))
    ['2x', '4.5x', '3x random']
    """
    less, more = 2 * mask.acceleration / 3, 3 * mask.acceleration / 2
    return {
        f"{less:g}x": type(mask)(less, mask.center_fraction),
        f"{more:g}x": type(mask)(more, mask.center_fraction),
        f"{mask.acceleration:g}x random": RandomMask(mask.acceleration, mask.center_fraction),
    }


def acquisition_gaps(found: Mapping[str, Results], statistics: Statistics) -> dict:
    """The gap to the oracles under each acquisition, and the highest of them.

    Args:
        found: acquisition -> results of the audited model and of the oracles.
        statistics: The settings of the intervals.

    Returns:
        acquisition -> cohort -> ``psnr`` (dB) and ``ssim`` -> see :func:`scripts.audit.quality.gap`; under ``highest``
        the entry ``above`` of the acquisition where it is largest, which is named.
    """
    table: dict = {}
    for acquisition, results in found.items():
        table[acquisition] = {c: {} for c in results.cohorts}
        for cohort, entry in table[acquisition].items():
            for metric in METRICS:
                known = {name: results.values(name, cohort, metric) for name in references(results.models)}
                own = results.values(AUDITED, cohort, metric)
                entry[metric] = gap(own, known, results.patients(cohort), statistics)
    table["highest"] = {
        cohort: {
            metric: {"above": highest({a: table[a][cohort][metric]["above"] for a in found}, "acquisition")}
            for metric in METRICS
        }
        for cohort in next(iter(table.values()))
    }
    return table


class Acquisitions(Sampled):
    """Measures the audited model and the oracles on the forgotten kind under other undersampling patterns."""

    name = "acquisitions"
    title = "Other acquisitions: gap to the oracle"
    gates = (r"highest/(KTA|UA)/(psnr|ssim)/above",)

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.masks = other_masks(given.mask)
        self.turns = len(self.masks)
        self.groups = {name: given.cohorts[name] for name in ("KTA", "UA") if given.cohorts.get(name)}

    def compared(self, models: Models) -> Models:
        """The audited model and the oracles, if there are any."""
        known = references(models)
        return {name: models[name] for name in (AUDITED, *known)} if known else {}

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        compared, chosen = self.compared(models), self.chosen(models)
        if not compared:
            return NO_ORACLE
        found = {
            name: Results(measure_models(compared, chosen, Undersample(mask, seed=0), self.given.device))
            for name, mask in self.masks.items()
        }
        return acquisition_gaps(found, statistics)

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row an acquisition, cohort and metric."""
        rows = [
            [name, f"{cohort} {HEADINGS[metric]}", with_interval(found["gap"], DECIMALS[metric], True)]
            for name, cohorts in entry.items()
            if name != "highest"
            for cohort, metrics in cohorts.items()
            for metric, found in metrics.items()
        ]
        note = "The same scans under undersampling patterns that the method did not see."
        return Table(cls.title, note, ["acquisition", "measure", f"mean difference [{share}]"], rows)


def relative_distance(first: Tensor, second: Tensor, target: Tensor) -> float:
    """‖x₁ − x₂‖₂ / ‖y‖₂ of two reconstructions of one slice and their reference image, all of one shape; a fraction.

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


class OutputDistance(Sampled):
    """How far the audited model's images lie from the oracle's, beside how far another oracle's do.

    Source: after Georgiev et al., Attribute-to-Delete, 2024 (arXiv 2410.23232), which compares the outputs of
    unlearned models with those of models that were trained without the forget set (KLoM).
    """

    name = "output_distance"
    title = "Distance of the images to the oracle's"
    gates = (r"(BTA|KTA|UA)/ratio",)

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.groups = {name: volumes for name, volumes in given.cohorts.items() if volumes}

    def compared(self, models: Models) -> Models:
        """The audited model and every oracle, if there is one."""
        names = (AUDITED, *oracle_names(models), *references(models))
        return {name: models[name] for name in dict.fromkeys(names)} if ORACLE in models else {}

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        if not self.compared(models):
            return NO_ORACLE
        found = {c: self._distances(models, s, references(models, c)[0]) for c, s in self.chosen(models).items()}
        patients = {volume.name: volume.patient_id for volumes in self.groups.values() for volume in volumes}
        return output_distances(found, patients, statistics)

    def _distances(
        self, models: Models, slices: Sequence[tuple[Volume, int]], reference: str
    ) -> dict[str, dict[str, float]]:
        """Model -> volume -> mean over its slices: the audited model's to a reference, others' to the oracle."""
        to = {AUDITED: reference, **{name: ORACLE for name in oracle_names(models) if name != ORACLE}}
        found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in to}
        for one in each_slice(self.compared(models), slices, self.given.transform, self.given.device):
            for name, other in to.items():
                distance = relative_distance(one.images[name], one.images[other], one.label["target"])
                found[name][one.label["volume"][0]].append(distance)
        return {name: {v: float(np.mean(d)) for v, d in volumes.items()} for name, volumes in found.items()}

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row a cohort."""
        rows = [
            [cohort, number(found["model"], 4), number(found["oracles"], 4), with_interval(found["ratio"])]
            for cohort, found in entry.items()
        ]
        note = "Relative l2 distance, mean over slices; the ratio needs a second oracle, and 1 is honest retraining."
        return Table(cls.title, note, ["cohort", "model to oracle", "oracle to oracle", f"ratio [{share}]"], rows)
