"""How good the study's models are: means, gaps to the oracle, its band. Every row names the records it comes from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scripts.evaluation.bootstrap import mean_with_interval
from scripts.evaluation.metrics import METRICS
from scripts.evaluation.results import COHORTS, ZERO_FILLED, VolumeResult, mean_std
from scripts.protocol.results import TRAINED, Result

CONFIDENCE = 0.95
Groups = Mapping[str, Sequence[Result]]


@dataclass(frozen=True)
class Quality:
    """One metric of one model in one cohort; ``std_seeds`` is None for a single seed.

    The values are first averaged over seeds, then ``mean`` and ``std`` are those over volumes; ``std_seeds`` is the
    sample standard deviation of the seeds' means.
    """

    model: str
    cohort: str
    metric: str
    volumes: int
    seeds: int
    mean: float
    std: float
    std_seeds: float | None
    records: str


@dataclass(frozen=True)
class Band:
    """How far oracles differ that were trained alike but for the seed: lowest and highest mean of a metric."""

    cohort: str
    metric: str
    seeds: int
    mean: float
    std_seeds: float
    low: float
    high: float
    records: str


@dataclass(frozen=True)
class Gap:
    """Paired difference of a model to the oracle, with its 95 % interval by bootstrap over patients.

    ``within_band`` tells whether the model's mean lies between the oracle's lowest and highest seed; it is None with a
    single oracle. ``low`` and ``high`` are None with fewer than two patients.
    """

    model: str
    cohort: str
    metric: str
    patients: int
    difference: float
    low: float | None
    high: float | None
    within_band: bool | None
    records: str


@dataclass(frozen=True)
class Knowledge:
    """What the forget cohort taught: means of G, of the oracle and of the model of the forget cohort alone."""

    cohort: str
    metric: str
    G: float
    oracle: float | None
    forget_only: float | None
    G_minus_oracle: float | None
    G_minus_forget_only: float | None
    records: str


def mean_over_seeds(seeds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Volume -> mean over seeds of a metric.

    >>> mean_over_seeds([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 2.0}])
    {'a': 2.0, 'b': 2.0}
    """
    return {volume: math.fsum(values[volume] for values in seeds) / len(seeds) for volume in sorted(seeds[0])}


def volume_values(rows: Sequence[VolumeResult], cohort: str, metric: str) -> dict[str, float]:
    """Volume -> value of one metric in one cohort."""
    return {row.volume: row.value(metric) for row in rows if row.cohort == cohort}


def cohort_means(seeds: Iterable[Sequence[VolumeResult]], cohort: str, metric: str) -> list[float]:
    """The mean over volumes of each seed; none for a cohort without volumes."""
    values = [list(volume_values(rows, cohort, metric).values()) for rows in seeds]
    return [mean_std(seed)[0] for seed in values if seed]


def record_files(results: Sequence[Result]) -> str:
    """The records of some results, as one text."""
    return "; ".join(dict.fromkeys(result.path for result in results))


def mean_psnr(quality: Sequence[Quality]) -> dict[str, dict[str, float]]:
    """Model -> cohort -> mean PSNR [dB]."""
    found: dict[str, dict[str, float]] = {}
    for row in quality:
        if row.metric == "psnr":
            found.setdefault(row.model, {})[row.cohort] = row.mean
    return found


def quality_rows(groups: Groups) -> list[Quality]:
    """BTA, KTA and UA of the zero-filled image and of every model."""
    rows = []
    original = next(iter(groups.get("G", [])), None)
    if original is not None:
        rows += _quality(ZERO_FILLED, [original.zero_filled], [original])
    for model, results in groups.items():
        rows += _quality(model, [result.rows for result in results], results)
    return rows


def _quality(model: str, seeds: Sequence[Sequence[VolumeResult]], results: Sequence[Result]) -> list[Quality]:
    rows = []
    for cohort in COHORTS:
        for metric in METRICS:
            values = [volume_values(seed, cohort, metric) for seed in seeds]
            if not values[0]:
                continue
            mean, std = mean_std(list(mean_over_seeds(values).values()))
            spread = mean_std([mean_std(list(v.values()))[0] for v in values])[1] if len(seeds) > 1 else None
            records = record_files(results)
            rows.append(Quality(model, cohort, metric, len(values[0]), len(seeds), mean, std, spread, records))
    return rows


def band_rows(groups: Groups) -> list[Band]:
    """The oracle's own seed-to-seed band in every cohort and metric."""
    oracles = groups.get("oracle", [])
    rows = []
    for cohort in COHORTS:
        for metric in METRICS:
            means = cohort_means((result.rows for result in oracles), cohort, metric)
            if means:
                found = (len(means), *mean_std(means), min(means), max(means))
                rows.append(Band(cohort, metric, *found, record_files(oracles)))
    return rows


def gap_rows(groups: Groups, seed: int) -> list[Gap]:
    """The gap of every model to the oracle in every cohort and metric; ``seed`` is that of the bootstrap."""
    oracles = groups.get("oracle", [])
    band = band_rows(groups)
    models = [model for model in groups if model not in ("oracle", ZERO_FILLED)] if oracles else []
    return [_gap(model, groups[model], oracles, limits, seed) for model in models for limits in band]


def _gap(model: str, results: Sequence[Result], oracles: Sequence[Result], limits: Band, seed: int) -> Gap:
    cohort, metric = limits.cohort, limits.metric
    own, oracle = (
        mean_over_seeds([volume_values(result.rows, cohort, metric) for result in side]) for side in (results, oracles)
    )
    patient = {row.volume: row.patient_id for row in results[0].rows if row.cohort == cohort}
    found = mean_with_interval([own[v] - oracle[v] for v in own], [patient[v] for v in own], CONFIDENCE, seed=seed)
    low, high = found["interval"] or (None, None)
    within = limits.low <= mean_std(list(own.values()))[0] <= limits.high if limits.seeds > 1 else None
    records = record_files([*results, *oracles])
    return Gap(model, cohort, metric, found["patients"], found["value"], low, high, within, records)


def knowledge_rows(groups: Groups) -> list[Knowledge]:
    """What the forget cohort taught, on both test sets."""
    records = record_files([result for model in TRAINED for result in groups.get(model, [])])
    rows = []
    for cohort in ("BTA", "KTA"):
        for metric in METRICS:
            trained = [[result.rows for result in groups.get(model, [])] for model in TRAINED]
            means = [cohort_means(seeds, cohort, metric) for seeds in trained]
            original, oracle, alone = (mean_std(values)[0] if values else None for values in means)
            if original is not None:
                first, second = (None if other is None else original - other for other in (oracle, alone))
                rows.append(Knowledge(cohort, metric, original, oracle, alone, first, second, records))
    return rows
