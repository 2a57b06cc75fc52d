"""From per-volume results to the audit's measures; which models they compare and on which cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from scripts.audit.distances import linear_cka, weight_distance
from scripts.audit.experiment import AUDITED, CALIBRATION, ORACLE, ORIGINAL, QUERY, TREATED, oracle_names, references
from scripts.audit.gaps import distribution_distance, forgotten_ratio, gap
from scripts.audit.membership import attack, auc
from scripts.audit.statistics import Statistics, not_measured
from scripts.data.volumes import Volume
from scripts.evaluation.bootstrap import mean_with_interval, ratio_with_interval
from scripts.evaluation.metrics import METRICS
from scripts.evaluation.results import ZERO_FILLED, Results

NO_ORACLE = not_measured("no oracle weights")


def gaps(results: Results, references: Sequence[str], statistics: Statistics, audited: str = AUDITED) -> dict:
    """Cohort -> metric -> :func:`scripts.audit.gaps.gap` of a model to the references."""
    if not references:
        return NO_ORACLE
    table: dict = {}
    for cohort in results.cohorts:
        table[cohort] = {
            metric: gap(
                results.values(audited, cohort, metric),
                {name: results.values(name, cohort, metric) for name in references},
                results.patients(cohort),
                statistics,
                margin=statistics.equivalence.get(cohort) if metric == "psnr" else None,
            )
            for metric in METRICS
        }
    return table


def oracle_gaps(results: Results, statistics: Statistics, audited: str = AUDITED) -> dict:
    """:func:`gaps` of a model to what each cohort is judged by, see :func:`scripts.audit.experiment.references`."""
    if ORACLE not in results.models:
        return NO_ORACLE
    return {c: gaps(results, references(results.models, c), statistics, audited)[c] for c in results.cohorts}


def recipe(results: Results, statistics: Statistics) -> dict:
    """What the unlearning does to a network that never knew: the treated oracle less the oracle as it was trained.

    Returns:
        ``alone``, that gap, and ``with_memory``, the gap of the audited model to the oracle as it was trained, which is
        shown and not judged; each as :func:`gaps`.
    """
    if TREATED not in results.models:
        return not_measured("no treated oracle that counts")
    oracles = oracle_names(results.models)
    return {
        "alone": gaps(results, oracles, statistics, TREATED),
        "with_memory": gaps(results, oracles, statistics),
    }


def distributions(results: Results) -> dict:
    """Cohort -> metric -> distance of the audited model's distribution to the oracle's."""
    if ORACLE not in results.models:
        return NO_ORACLE
    table: dict = {}
    for cohort in results.cohorts:
        pair = (AUDITED, references(results.models, cohort)[0])
        table[cohort] = {
            metric: distribution_distance(*(results.values(model, cohort, metric) for model in pair))
            for metric in METRICS
        }
    return table


def membership(results: Results, statistics: Statistics, audited: str = AUDITED) -> dict:
    """The attack with two scores, both in dB, higher for members.

    ``error``: the PSNR. ``gain``: the PSNR less that of the zero-filled image of the same volume: how hard a scan
    is to reconstruct is taken out by a predictability estimate that needs no training (after Shafran et al. 2021,
    Membership Inference Attacks are Easier on Difficult Problems).
    """
    missing = [cohort for cohort in ("UA", "KTA") if cohort not in results.cohorts]
    if missing:
        return not_measured(f"no volumes in {', '.join(missing)}")

    def score(model: str, cohort: str, gain: bool) -> np.ndarray:
        return results.values(model, cohort, "psnr") - gain * results.values(ZERO_FILLED, cohort, "psnr")

    def scores(model: str, gain: bool) -> tuple[np.ndarray, np.ndarray]:
        return score(model, "UA", gain), score(model, "KTA", gain)

    patients = results.patients("UA"), results.patients("KTA")
    found = {}
    for name, gain in (("error", False), ("gain", True)):
        known = [scores(model, gain) for model in references(results.models)]
        entry = attack(*scores(audited, gain), patients, statistics, known)
        entry["original_auc"] = auc(*scores(ORIGINAL, gain))
        found[name] = {key: NO_ORACLE if value is None else value for key, value in entry.items()}
    return found


def have_you_forgotten(results: Results) -> dict:
    """The Kolmogorov-Smirnov ratio on the forget training volumes, in PSNR."""
    calibration = CALIBRATION if CALIBRATION in results.models else (references(results.models) or [ORACLE])[0]
    if "UA" not in results.cohorts:
        return not_measured("no volumes in UA")
    if QUERY not in results.models:
        return not_measured("no query weights (trained on the forget set alone)")
    if calibration not in results.models:
        return not_measured("no calibration weights (never saw the forget set) and no oracle")
    values = (results.values(model, "UA", "psnr") for model in (AUDITED, QUERY, calibration))
    return {**forgotten_ratio(*values), "calibration": calibration}


def hallucination(
    sums: Mapping[str, Mapping[str, Mapping[str, float]]], patients: Mapping[str, str], statistics: Statistics
) -> dict:
    """Null-space NMSE of each model on the retain test set, its gap to original and oracle, and the enhancement.

    ``enhancement`` is the audited model's null-space error over the original's: below 1 the retained kind gained from
    forgetting (the claim of Xue et al., Erase to Enhance, MIDL 2024).

    Args:
        sums: model -> volume -> ``{"null", "error", "target"}``, see :class:`scripts.audit.probe.SliceProbe`.
        patients: volume -> patient.
        statistics: The settings of the intervals.
    """
    if not sums[AUDITED]:
        return not_measured("no volumes in BTA")
    values = {model: np.array([s["null"] / s["target"] for s in rows.values()]) for model, rows in sums.items()}
    names = [patients[volume] for volume in sums[AUDITED]]
    table: dict = {
        "models": {
            model: {
                "null_space_nmse": float(values[model].mean()),
                "share_of_error": float(np.mean([s["null"] / s["error"] for s in rows.values() if s["error"]])),
            }
            for model, rows in sums.items()
        }
    }
    pair = (values[AUDITED], values[ORIGINAL])
    table["enhancement"] = ratio_with_interval(*pair, names, **statistics.draw)
    for name, reference in (("original_gap", ORIGINAL), ("oracle_gap", ORACLE)):
        table[name] = NO_ORACLE
        if reference in values:
            table[name] = mean_with_interval(values[AUDITED] - values[reference], names, **statistics.draw)
    return table


def subgroups(
    results: Results, cohorts: Mapping[str, Sequence[Volume]], fields: Sequence[str], statistics: Statistics
) -> list[dict]:
    """PSNR in each subgroup of each cohort, and the gap to the oracle (without one: to the original) in dB."""
    rows = []
    for cohort in results.cohorts:
        reference = (references(results.models, cohort) or [ORIGINAL])[0]
        of = {volume.name: volume.fields for volume in cohorts[cohort]}
        for name in fields:
            groups = np.array([of[volume].get(name, "") for volume in results.volumes(cohort)])
            for group in sorted(set(groups) - {""}):
                chosen = groups == group
                patients = [p for p, keep in zip(results.patients(cohort), chosen, strict=True) if keep]
                audited, other = (results.values(model, cohort, "psnr")[chosen] for model in (AUDITED, reference))
                difference = mean_with_interval(audited - other, patients, **statistics.draw)
                row = {"cohort": cohort, "field": name, "group": str(group), "reference": reference}
                rows.append({**row, "psnr": float(audited.mean()), "gap": difference})
    return rows


def distance(
    models: Mapping[str, torch.nn.Module],
    features: Mapping[str, Mapping[str, Tensor]],
    cohorts: Mapping[str, Sequence[Volume]],
) -> dict:
    """Distance of the audited model to original and oracle, in weights and in representation.

    Args:
        models: name -> network.
        features: model -> volume -> encoder features, see :class:`scripts.audit.probe.SliceProbe`.
        cohorts: cohort -> volumes.
    """
    table: dict = {}
    for reference in (ORIGINAL, ORACLE, *({TREATED} & models.keys())):
        if reference not in models:
            table[reference] = NO_ORACLE
            continue
        states = [models[name].state_dict() for name in (AUDITED, reference)]
        table[reference] = {"weights": weight_distance(*states), "cka": {}}
        for cohort in ("BTA", "KTA"):
            volumes = [volume.name for volume in cohorts.get(cohort, [])]
            if volumes and all(volume in features[AUDITED] for volume in volumes):
                pair = [torch.cat([features[name][v] for v in volumes]) for name in (AUDITED, reference)]
                table[reference]["cka"][cohort] = linear_cka(*pair)
    return table
