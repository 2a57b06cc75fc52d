"""Measures of further training and of other acquisitions, computed again from what the audit saw of each scan."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from scripts.audit.acquisitions import acquisition_gaps
from scripts.audit.continued import Curve
from scripts.audit.distances import DISTANCE, output_distances
from scripts.audit.experiment import ORIGINAL, references
from scripts.audit.relearning import relearned
from scripts.audit.resurfacing import resurfaced
from scripts.audit.statistics import Statistics
from scripts.evaluation.results import Results, VolumeResult


def experiments_of(
    scans: Sequence[Mapping[str, Any]],
    statistics: Statistics,
    settings: Mapping[str, Mapping[str, Any]],
    without: Collection[str] = (),
) -> dict[str, dict]:
    """Relearning, resurfacing, other acquisitions and distances of images, by the audit's own functions.

    Args:
        scans: The scans, as :func:`scripts.certificate.scans.anonymous_scans` returns them.
        statistics: The settings of intervals.
        settings: experiment -> its declared settings.
        without: The models by which nothing is judged.

    Raises:
        ValueError: curves that were not followed at the declared steps, or results in another cohort than the scan's.
    """
    models = {model for scan in scans for model in scan["results"]} - set(without)
    patients = {scan["scan"]: scan["patient"] for scan in scans}
    acquisitions = {at: Results(rows) for at, rows in _rows(scans, "acquisitions").items()}
    return {
        "relearning": relearned(_curves(scans, "relearning", settings), settings["relearning"], statistics),
        "resurfacing": resurfaced(_curves(scans, "resurfacing", settings), settings["resurfacing"], statistics),
        "acquisitions": acquisition_gaps(acquisitions, statistics, bool(references(models))),
        "output_distance": output_distances(_distances(scans), patients, statistics),
    }


def _curves(scans: Sequence[Mapping[str, Any]], name: str, settings: Mapping[str, Mapping[str, Any]]) -> dict:
    """model -> step -> results; each model at every declared step, the original at step 0 alone."""
    curves: dict[str, Curve] = {}
    for at, rows in _rows(scans, name).items():
        for model in {row.model for row in rows}:
            curves.setdefault(model, Curve())[int(at)] = Results(row for row in rows if row.model == model)
    steps = settings[name]["steps"]
    for model, curve in curves.items():
        expected = steps[:1] if model == ORIGINAL else steps
        if sorted(curve) != expected:
            raise ValueError(f"{name}: {model}: expected results at the steps {expected}, found {sorted(curve)}")
    if name == "relearning" and any(curve[0].cohorts != ["KTA"] for curve in curves.values()):
        raise ValueError("relearning: expected curves on KTA alone")
    return curves


def _rows(scans: Sequence[Mapping[str, Any]], name: str) -> dict[str, list[VolumeResult]]:
    """Step or acquisition -> results of each scan and model."""
    rows: dict[str, list[VolumeResult]] = {}
    for scan, at, model, values in _seen(scans, name):
        result = VolumeResult(model, scan["cohort"], scan["scan"], scan["patient"], "", scan["slices"], **values)
        rows.setdefault(at, []).append(result)
    return rows


def _distances(scans: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """cohort -> model -> scan -> distance."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for scan, cohort, model, values in _seen(scans, "output_distance"):
        if cohort != scan["cohort"]:
            raise ValueError(
                f"output_distance: {scan['scan']}: expected a distance in {scan['cohort']}, found {cohort}"
            )
        table.setdefault(cohort, {}).setdefault(model, {})[scan["scan"]] = values[DISTANCE]
    return table


def _seen(
    scans: Sequence[Mapping[str, Any]], name: str
) -> Iterator[tuple[Mapping[str, Any], str, str, Mapping[str, float]]]:
    for scan in scans:
        for at, models in scan["observed"].get(name, {}).items():
            for model, values in models.items():
                yield scan, at, model, values
