"""The study's tables as plain rows. Every row names the record files that its numbers come from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.evaluation.metrics import METRICS
from scripts.protocol.results import TRAINED, ZERO_FILLED, Result, Row, by_fraction, method_label
from scripts.protocol.statistics import Fit, bootstrap_interval, mean_over_seeds, mean_std, quadratic_fit

COHORTS = ("BTA", "KTA", "UA")
Groups = Mapping[str, Sequence[Result]]


def volume_values(rows: Sequence[Row], cohort: str, metric: str) -> dict[str, float]:
    """Volume -> value of one metric in one cohort."""
    return {row["volume"]: row[metric] for row in rows if row["cohort"] == cohort}


def cohort_means(results: Sequence[Result], cohort: str, metric: str) -> list[float]:
    """The mean over volumes of each seed; none for a cohort without volumes."""
    values = [list(volume_values(result.rows, cohort, metric).values()) for result in results]
    return [mean_std(seed)[0] for seed in values if seed]


def quality_table(groups: Groups) -> list[Row]:
    """BTA, KTA and UA of every model: values are first averaged over seeds, then mean ± std over volumes.

    ``std_seeds`` is the sample standard deviation of the seeds' means, None for a single seed.
    """
    rows = []
    original = next(iter(groups.get("G", [])), None)
    if original is not None:
        rows += _quality(ZERO_FILLED, [original.zero_filled], [original])
    for model, results in groups.items():
        rows += _quality(model, [result.rows for result in results], results)
    return rows


def _quality(model: str, seeds: Sequence[Sequence[Row]], results: Sequence[Result]) -> list[Row]:
    rows = []
    for cohort in COHORTS:
        for metric in METRICS:
            values = [volume_values(seed, cohort, metric) for seed in seeds]
            if not values[0]:
                continue
            mean, std = mean_std(list(mean_over_seeds(values).values()))
            _, spread = mean_std([mean_std(list(v.values()))[0] for v in values])
            rows.append(
                {
                    "model": model,
                    "cohort": cohort,
                    "metric": metric,
                    "volumes": len(values[0]),
                    "seeds": len(seeds),
                    "mean": mean,
                    "std": std,
                    "std_seeds": spread if len(seeds) > 1 else None,
                    "records": _records(results),
                }
            )
    return rows


def oracle_band(groups: Groups) -> list[Row]:
    """The oracle's own seed-to-seed band: lowest and highest mean of its seeds."""
    oracles = groups.get("oracle", [])
    rows = []
    for cohort in COHORTS:
        for metric in METRICS:
            means = cohort_means(oracles, cohort, metric) if oracles else []
            if means:
                mean, std = mean_std(means)
                entry = {"cohort": cohort, "metric": metric, "seeds": len(means), "mean": mean, "std_seeds": std}
                rows.append({**entry, "low": min(means), "high": max(means), "records": _records(oracles)})
    return rows


def gap_table(groups: Groups, seed: int) -> list[Row]:
    """Paired difference of every model to the oracle, with a bootstrap interval over patients.

    ``within_band`` tells whether the model's mean lies between the oracle's lowest and highest seed; None with a
    single oracle.
    """
    oracles = groups.get("oracle", [])
    band = {(row["cohort"], row["metric"]): row for row in oracle_band(groups)}
    rows = []
    for model, results in groups.items():
        if model in ("oracle", ZERO_FILLED) or not oracles:
            continue
        for (cohort, metric), limits in band.items():
            own, oracle = (
                mean_over_seeds([volume_values(r.rows, cohort, metric) for r in side]) for side in (results, oracles)
            )
            patients = {r["volume"]: r["patient_id"] for r in results[0].rows if r["cohort"] == cohort}
            differences = {volume: own[volume] - oracle[volume] for volume in own}
            low, high = bootstrap_interval(differences, patients, seed)
            mean = mean_std(list(own.values()))[0]
            rows.append(
                {
                    "model": model,
                    "cohort": cohort,
                    "metric": metric,
                    "patients": len({patients[v] or v for v in own}),
                    "difference": mean_std(list(differences.values()))[0],
                    "low": None if math.isnan(low) else low,
                    "high": None if math.isnan(high) else high,
                    "within_band": limits["low"] <= mean <= limits["high"] if limits["seeds"] > 1 else None,
                    "records": _records([*results, *oracles]),
                }
            )
    return rows


def efficiency_table(groups: Groups) -> list[Row]:
    """What each model cost: slices forward and backward and seconds, and the same as a share of training the oracle.

    Where the oracle was given without its run record, the original's training stands in; without either, no share.
    """
    reference = _mean_cost(groups.get("oracle", [])) or _mean_cost(groups.get("G", []))
    rows = []
    for model, results in groups.items():
        cost = _mean_cost(results)
        if cost is None:
            continue
        row: Row = {"model": model, "seeds": len(results), **cost}
        row["passes_share"] = _passes(cost) / _passes(reference) if reference else None
        row["seconds_share"] = cost["seconds"] / reference["seconds"] if reference and reference["seconds"] else None
        rows.append({**row, "records": _records(results)})
    return rows


def _mean_cost(results: Sequence[Result]) -> dict[str, float] | None:
    costs = [result.cost for result in results]
    if not costs or not all(costs):
        return None
    return {
        key: mean_std([cost[key] for cost in costs])[0]
        for key in ("epochs", "forward_slices", "backward_slices", "seconds")
    }


def _passes(cost: Mapping[str, float]) -> float:
    return cost["forward_slices"] + cost["backward_slices"]


def knowledge_gap_table(groups: Groups) -> list[Row]:
    """What the forget cohort taught: G, the oracle and the model of the forget cohort alone, on both test sets."""
    rows = []
    for cohort in ("BTA", "KTA"):
        for metric in METRICS:
            means = {
                model: mean_std(cohort_means(groups[model], cohort, metric))[0]
                for model in TRAINED
                if groups.get(model) and cohort_means(groups[model], cohort, metric)
            }
            if "G" in means:
                row = {"cohort": cohort, "metric": metric, **{model: means.get(model) for model in TRAINED}}
                for other in TRAINED[1:]:
                    row[f"G − {other}"] = means["G"] - means[other] if other in means else None
                results = [result for model in TRAINED for result in groups.get(model, [])]
                rows.append({**row, "records": _records(results)})
    return rows


def dynamics_table(results: Sequence[Result], original: Result) -> list[Row]:
    """Mean PSNR, SSIM and NMSE of each cohort after each epoch of unlearning; epoch 0 is G."""
    rows = []
    for result in results:
        if not result.epochs:
            continue
        last = max(result.epochs)
        steps = {0: original.rows, **result.epochs, last: result.rows}
        for epoch, values in steps.items():
            for cohort in COHORTS:
                means = {m: list(volume_values(values, cohort, m).values()) for m in METRICS}
                if means["psnr"]:
                    row = {"model": method_label(result.cell.method), "seed": result.cell.seed, "epoch": epoch}
                    row |= {"cohort": cohort, **{m: mean_std(means[m])[0] for m in METRICS}}
                    rows.append({**row, "records": _records([original, result])})
    return rows


def fraction_table(results: Sequence[Result], methods: Sequence[str]) -> list[Row]:
    """Quality and cost of a method at each retain fraction, mean over seeds; ``*_std_seeds`` their spread."""
    rows = []
    for method in methods:
        for fraction, seeds in by_fraction(results, method).items():
            row: Row = {"model": method_label(method), "retain_fraction": fraction, "seeds": len(seeds)}
            for cohort in COHORTS:
                means = cohort_means(seeds, cohort, "psnr")
                row[f"{cohort}_psnr"], row[f"{cohort}_psnr_std_seeds"] = mean_std(means) if means else (None, None)
            cost = _mean_cost(seeds) or {}
            row["passes"] = _passes(cost) if cost else None
            rows.append({**row, "seconds": cost.get("seconds"), "records": _records(seeds)})
    return rows


def fraction_fits(rows: Sequence[Row]) -> dict[str, dict[str, Fit]]:
    """Model -> quantity (``BTA_psnr`` dB, ``passes``, ``seconds``) -> fit, where there are enough fractions."""
    fits: dict[str, dict[str, Fit]] = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        for quantity, best in (("BTA_psnr", "max"), ("passes", "min"), ("seconds", "min")):
            if all(row[quantity] is not None for row in own):
                fit = quadratic_fit([r["retain_fraction"] for r in own], [r[quantity] for r in own], best)
                if fit is not None:
                    fits.setdefault(model, {})[quantity] = fit
    return fits


def cell_table(cells: Sequence[Any], records: Mapping[str, Mapping]) -> list[Row]:
    """Every cell: what it was, how it ended, how long it took, where its record is."""
    return [
        {
            "cell": cell.name,
            "role": cell.role,
            "method": cell.method,
            "retain_fraction": cell.fraction,
            "seed": cell.seed,
            "status": records[cell.name]["status"],
            "error": records[cell.name].get("error"),
            "seconds": records[cell.name].get("seconds"),
            "records": f"cells/{cell.name}/cell.json",
        }
        for cell in cells
    ]


def _records(results: Sequence[Result]) -> str:
    return "; ".join(dict.fromkeys(result.path for result in results))
