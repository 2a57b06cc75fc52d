"""Other acquisitions: whether a model that forgot under one undersampling still knows under another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from scripts.audit.measure import AUDITED, Measure, references, with_interval
from scripts.audit.quality import gap
from scripts.audit.statistics import Statistics, not_measured
from scripts.data.slices import Undersample
from scripts.data.volumes import Volume
from scripts.evaluation.reconstruct import Models, measure_models, spread
from scripts.evaluation.results import Results
from scripts.evaluation.table import DECIMALS, HEADINGS, Table
from scripts.kspace.masks import ColumnMask, RandomMask

METRICS = ("psnr", "ssim")
COHORTS = ("KTA", "UA")


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


def acquisition_gaps(found: Mapping[str, Results], statistics: Statistics, compared: bool = True) -> dict:
    """The gap to the oracles under each acquisition, and the highest of them.

    Args:
        found: acquisition -> results of the audited model and of the oracles.
        statistics: The settings of the intervals.
        compared: Whether there is an oracle to compare with.

    Returns:
        acquisition -> cohort -> ``psnr`` (dB) and ``ssim`` -> see :func:`scripts.audit.quality.gap`; under ``highest``
        the entry ``above`` of the acquisition where it is largest, which is named.
    """
    if not compared:
        return not_measured("no oracle weights")
    if not found:
        return not_measured("no other acquisition, or no volumes in KTA and UA")
    table: dict = {}
    for acquisition, results in found.items():
        table[acquisition] = {
            cohort: {metric: _gap(results, cohort, metric, statistics) for metric in METRICS}
            for cohort in results.cohorts
        }
    cohorts = next(iter(table.values()))
    table["highest"] = {
        cohort: {metric: {"above": _highest(table, cohort, metric)} for metric in METRICS} for cohort in cohorts
    }
    return table


def _gap(results: Results, cohort: str, metric: str, statistics: Statistics) -> dict:
    known = {name: results.values(name, cohort, metric) for name in references(results.models)}
    return gap(results.values(AUDITED, cohort, metric), known, results.patients(cohort), statistics)


def _highest(table: Mapping, cohort: str, metric: str) -> dict:
    above = {acquisition: entry[cohort][metric]["above"] for acquisition, entry in table.items()}
    name = max(above, key=lambda acquisition: above[acquisition]["value"])
    return {**above[name], "acquisition": name}


class Acquisitions(Measure):
    """Measures the audited model and the oracles on the forgotten kind under other undersampling patterns.

    Args:
        masks: name -> pattern, see :func:`other_masks`.
        cohorts: cohort -> volumes, of which KTA and UA are used.
        limit: The most slices that the measure may put through a network.
        device: Where to run the networks.
    """

    name = "acquisitions"
    title = "Other acquisitions: gap to the oracle"
    gates = (r"highest/(KTA|UA)/(psnr|ssim)/above",)

    def __init__(
        self,
        masks: Mapping[str, ColumnMask],
        cohorts: Mapping[str, Sequence[Volume]],
        limit: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.masks, self.device, self.limit = dict(masks), device, limit
        self.volumes = {name: list(cohorts[name]) for name in COHORTS if cohorts.get(name)}

    def slices(self, models: Models) -> int:
        """See :class:`scripts.audit.measure.Measure`."""
        chosen = sum(map(len, self._chosen(models).values()))
        return chosen * len(self.masks) * len(self._compared(models)) if references(models) else 0

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        """See :func:`acquisition_gaps`."""
        if not references(models) or not self.masks or not self.volumes:
            return acquisition_gaps({}, statistics, bool(references(models)))
        compared, chosen = self._compared(models), self._chosen(models)
        transforms: dict[str, Callable[[dict], dict]] = {
            name: Undersample(mask, seed=0) for name, mask in self.masks.items()
        }
        found = {name: measure_models(compared, chosen, t, self.device) for name, t in transforms.items()}
        return acquisition_gaps({name: Results(rows) for name, rows in found.items()}, statistics)

    def _compared(self, models: Models) -> Models:
        return {name: models[name] for name in (AUDITED, *references(models))}

    def _chosen(self, models: Models) -> dict[str, list[tuple[Volume, int]]]:
        shares = max(len(self.masks) * len(self._compared(models)) * len(self.volumes), 1)
        return {name: spread(volumes, max(self.limit // shares, 1)) for name, volumes in self.volumes.items()}

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row an acquisition, cohort and metric."""
        names = [name for name in entry if name != "highest"]
        rows = [
            [name, f"{cohort} {HEADINGS[metric]}", with_interval(found["gap"], DECIMALS[metric], True)]
            for name in names
            for cohort, metrics in entry[name].items()
            for metric, found in metrics.items()
        ]
        note = "The same scans under undersampling patterns that the method did not see."
        return Table(cls.title, note, ["acquisition", "measure", f"mean difference [{share}]"], rows)
