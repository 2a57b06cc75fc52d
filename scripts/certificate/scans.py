"""The result of each model on each scan, without a name in it, and every measure that follows from these results."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from scripts.audit import measures
from scripts.audit.experiment import AUDITED, ORIGINAL, QUANTISED, Observed
from scripts.audit.statistics import Statistics
from scripts.certificate.observed import experiments_of
from scripts.data.volumes import Volume
from scripts.evaluation.metrics import METRICS
from scripts.evaluation.results import Results, VolumeResult


def anonymous_scans(
    results: Iterable[VolumeResult],
    volumes: Iterable[Volume],
    null_space: Mapping[str, Mapping[str, Mapping[str, float]]],
    hashes: Mapping[str, str],
    fields: Sequence[str],
    observed: Mapping[str, Observed],
) -> list[dict]:
    """Per-scan results under numbers in place of names.

    Scans and patients are numbered in the order of their names, which no other number here gives away and on which
    the bootstrap's draws depend.

    Args:
        results: One result a model and scan, as ``metrics.csv`` holds them.
        volumes: The scans.
        null_space: The sums over the slices of each scan, by model and scan, see
            :class:`scripts.audit.probe.SliceProbe`.
        hashes: The SHA-256 of each scan's file.
        fields: The subgroup fields, whose values are stated.
        observed: What each experiment found of each scan.

    Returns:
        One entry a scan: ``scan``, ``cohort``, ``patient`` ("" where unknown), ``slices``, ``sha256``, ``groups``
        (field -> value), ``results`` (model -> metrics), ``null_space`` (model -> sums) and ``observed`` (experiment ->
        step or acquisition -> model -> metrics).
    """
    results, known = list(results), {volume.name: volume for volume in volumes}
    patients = {name: f"patient {index:05d}" for index, name in enumerate(sorted({r.patient_id for r in results}))}
    patients[""] = ""
    scans: dict[str, dict] = {}
    for result in sorted(results, key=lambda result: result.volume):
        name = result.volume
        entry = scans.setdefault(name, {})
        entry.setdefault("scan", f"scan {len(scans):05d}")
        entry["cohort"], entry["patient"] = result.cohort, patients[result.patient_id]
        entry["slices"], entry["sha256"] = result.slices, hashes[name]
        entry["groups"] = {field: str(known[name].fields.get(field, "")) for field in fields}
        entry.setdefault("results", {})[result.model] = {metric: result.value(metric) for metric in METRICS}
        entry["null_space"] = {m: sums[name] for m, sums in null_space.items() if name in sums}
        entry["observed"] = {
            experiment: part for experiment, found in observed.items() if (part := _of_scan(found, name))
        }
    return list(scans.values())


def _of_scan(found: Observed, name: str) -> dict[str, dict[str, dict[str, float]]]:
    """Step or acquisition -> model -> metrics of one scan, of those at which it was looked at."""
    parts = {at: {m: volumes[name] for m, volumes in models.items() if name in volumes} for at, models in found.items()}
    return {at: models for at, models in parts.items() if models}


def results_of(scans: Sequence[Mapping[str, Any]]) -> list[VolumeResult]:
    """The scans' results, one a model and scan."""
    return [
        VolumeResult(model, scan["cohort"], scan["scan"], scan["patient"], "", scan["slices"], **values)
        for scan in scans
        for model, values in scan["results"].items()
    ]


def measures_of(
    scans: Sequence[Mapping[str, Any]],
    statistics: Statistics,
    declared: Mapping[str, Any],
    without: Collection[str] = (),
) -> dict:
    """Every measure of the audit that follows from the results of each scan, by the audit's own functions.

    Args:
        scans: The scans, as :func:`anonymous_scans` returns them.
        statistics: The declared settings of intervals and tests.
        declared: The declared ``subgroups`` and the settings of the ``measures``.
        without: The models by which nothing is judged, see :func:`scripts.audit.treated.left_out`.

    Returns:
        The audit's ``measures`` without those that need weights or records, and ``control``: the measures of the
        original in place of the audited model.
    """
    results = Results(result for result in results_of(scans) if result.model not in without)
    patients = {scan["scan"]: scan["patient"] for scan in scans}
    models = list(dict.fromkeys(model for scan in scans for model in scan["null_space"]))
    sums = {m: {s["scan"]: s["null_space"][m] for s in scans if m in s["null_space"]} for m in models}
    cohorts: dict[str, list[Volume]] = {}
    for scan in scans:
        cohorts.setdefault(scan["cohort"], []).append(_volume(scan))
    return {
        "oracle_gap": measures.oracle_gaps(results, statistics),
        "recipe": measures.recipe(results, statistics),
        "original_gap": measures.gaps(results, [ORIGINAL], statistics),
        "quantised": measures.oracle_gaps(results, statistics, audited=QUANTISED),
        "distribution": measures.distributions(results),
        "membership": measures.membership(results, statistics),
        "have_you_forgotten": measures.have_you_forgotten(results),
        "hallucination": measures.hallucination(sums or {AUDITED: {}}, patients, statistics),
        "subgroups": measures.subgroups(results, cohorts, declared["subgroups"], statistics),
        **experiments_of(scans, statistics, declared["measures"], without),
        "control": {
            "oracle_gap": measures.oracle_gaps(results, statistics, audited=ORIGINAL),
            "membership": measures.membership(results, statistics, audited=ORIGINAL),
        },
    }


def _volume(scan: Mapping[str, Any]) -> Volume:
    """A stand-in that has what the subgroups read: name and fields."""
    return Volume(scan["scan"], scan["scan"], (scan["slices"], 1, 1, 1), (1, 1), None, "matrix", 1.0, scan["groups"])
