"""What unlearning does for one patient, one scanner, corrupted scans: ``python -m tests.benchmarks.other_requests``

Trains one original G on the mixed phantom, the same with another seed (what chance alone changes) and an oracle for
each request; unlearns with each method; evaluates; prints two Markdown tables: what there was to forget, and how the
models compare. Trainings are kept in the output folder and are not repeated.
"""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import fire
import monai.bundle
import torch
from joblib import Parallel, delayed

from scripts.evaluation.bootstrap import mean_with_interval
from scripts.evaluation.results import mean_std
from scripts.phantoms import mixed_phantom_datalist

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
REQUESTS = ("one_patient", "scanner_b", "corrupted")
LATER = "later"  # a datalist of later scans of the one patient, evaluated without a request: the one patient's KTA
COHORTS = ("BTA", "KTA", "UA")
COMMON = {"network#num_cascades": 2, "network#sens_pools": 2, "check_values": False}
G, TWIN, ORACLE = "G", "G, other seed", "oracle"

Rows = list[dict[str, str]]  # of metrics.csv
Difference = tuple[float, float, float]  # mean and 95 % interval [dB]; NaN where there is no interval


def main(
    output_dir: str = "outputs/other_requests",
    methods: Sequence[str] = ("default", "fine_tune"),
    seed: int = 0,
    n_jobs: int = 1,
    data: Mapping | None = None,
    training: Mapping | None = None,
    unlearning: Mapping | None = None,
) -> None:
    """Run what is missing and print the tables.

    Args:
        output_dir: for weights and evaluations.
        methods: overlays, or ``default`` for the method of ``unlearn.yaml``.
        seed: of G, oracles and unlearning; the other G has the next one.
        n_jobs: trainings at the same time, one thread each.
        data: settings of :func:`scripts.phantoms.mixed_phantom_datalist`, e.g. ``"{'seed': 1}"``.
        training: overrides of ``train``, e.g. ``"{'train_epochs': 5}"``.
        unlearning: overrides of ``unlearn``.
    """
    output = Path(output_dir)
    lists = {name: mixed_phantom_datalist(name, **(data or {})) for name in (*REQUESTS, LATER)}
    asked = {
        name: {"datalist": lists[name], "forget_request": str(CONFIGS / "requests" / f"{name}.yaml")}
        for name in REQUESTS
    }
    models = _train(output, asked, seed, n_jobs, {"train_epochs": 28, **(training or {})})
    _unlearn(output, asked, models, methods, n_jobs, {"seed": seed, **(unlearning or {})})
    rows = {name: _evaluate(output / name / "evaluation", asked[name], models[name]) for name in REQUESTS}
    later = {"datalist": lists[LATER], "forget_request": False}
    for row in _evaluate(output / "one_patient" / "later", later, models["one_patient"]):
        rows["one_patient"].append({**row, "cohort": "KTA"})
    _print_knowledge(rows, seed)
    _print_models(rows, models, seed)


def _train(output: Path, asked: Mapping, seed: int, n_jobs: int, settings: Mapping) -> dict[str, dict[str, Path]]:
    """Request -> model -> weights, of the trained models."""
    everything = {**asked[REQUESTS[0]], "forget_request": False, **settings}
    originals = {G: output / "original" / "original.pt", TWIN: output / "other_seed" / "original.pt"}
    jobs = [(path, "train", {**everything, "seed": seed + i}) for i, path in enumerate(originals.values())]
    oracles = {name: output / name / "oracle" / "oracle.pt" for name in asked}
    jobs += [(oracles[name], "train", {**asked[name], "oracle": True, "seed": seed, **settings}) for name in asked]
    _make(jobs, n_jobs)
    return {name: {**originals, ORACLE: oracles[name]} for name in asked}


def _unlearn(output: Path, asked: Mapping, models: Mapping, methods: Sequence[str], n_jobs: int, settings) -> None:
    """Unlearn each request with each method, and add the weights to ``models``."""
    jobs = []
    for name, data in asked.items():
        given = {**data, "weights": str(models[name][G]), "evaluate_models": False, **settings}
        for method in methods:
            models[name][method] = output / name / method / "unlearned.pt"
            jobs.append((models[name][method], "unlearn", given, *_overlay(method)))
    _make(jobs, n_jobs)


def _overlay(method: str) -> list[str]:
    return [] if method == "default" else ["approximate.yaml", f"methods/{method}.yaml"]


def _make(jobs: Iterable[tuple], n_jobs: int) -> None:
    Parallel(n_jobs=n_jobs)(delayed(_run)(*job) for job in jobs if not job[0].is_file())


def _run(product: Path, verb: str, settings: Mapping, *overlays: str) -> None:
    """One verb of the bundle, as the command line runs it; its output folder is that of ``product``."""
    torch.set_num_threads(1)
    logging.getLogger("ignite").setLevel(logging.WARNING)
    files = [str(CONFIGS / name) for name in (f"{verb}.yaml", *overlays)]
    monai.bundle.run(verb, config_file=files, output_dir=str(product.parent), **COMMON, **settings)


def _evaluate(folder: Path, data: Mapping, models: Mapping[str, Path]) -> Rows:
    product = folder / "metrics.csv"
    weights = {name: str(path) for name, path in models.items()}
    _run(product, "evaluate", {**data, "weights": weights, "comparison#figure": False})
    with open(product, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _print_knowledge(rows: Mapping[str, Rows], seed: int) -> None:
    """G's advantage over the oracle, by the kind of scan, beside what another seed and what other patients change."""
    table = []
    for request, own in rows.items():
        others = _differences([row for row in own if row["cohort"] == "BTA"], G, ORACLE).values()
        for cohort in COHORTS:
            for kind in dict.fromkeys(_kind(row) for row in own if row["cohort"] == cohort):
                part = [row for row in own if row["cohort"] == cohort and _kind(row) == kind]
                patients = [row["patient_id"] for row in part if row["model"] == G]
                gap, chance = (_difference(part, G, other, seed) for other in (ORACLE, TWIN))
                count = f"{len(patients)} ({len(set(patients))})"
                verdict = "–" if cohort == "BTA" else _measurable(gap, chance, others)
                table.append([request, cohort, kind, count, _text(gap), _text(chance), verdict])
    columns = ["request", "cohort", "kind", "scans (patients)", "G − oracle [dB]", "G − G, other seed [dB]"]
    _print([*columns, "is there anything to forget?"], table)


def _print_models(rows: Mapping[str, Rows], models: Mapping[str, Mapping[str, Path]], seed: int) -> None:
    """Quality of every model, its differences to the oracle, and its cost as a share of the oracle's training."""
    table = []
    for request, own in rows.items():
        cohorts = [[row for row in own if row["cohort"] == cohort] for cohort in COHORTS]
        for model in dict.fromkeys(row["model"] for row in own):
            quality = [_quality([row for row in cohort if row["model"] == model]) for cohort in cohorts]
            gaps = [_text(_difference(cohort, model, ORACLE, seed)) for cohort in cohorts]
            path = models[request].get(model)
            name = _record(path)["method"] if model == "default" else model
            table.append([request, name, *quality, *gaps, _cost(path, models[request][ORACLE])])
    gaps = [f"{cohort} − oracle's [dB]" for cohort in COHORTS]
    _print(["request", "model", *(f"{cohort} PSNR [dB] / SSIM" for cohort in COHORTS), *gaps, "passes"], table)


def _kind(row: Mapping[str, str]) -> str:
    return Path(row["volume"]).stem.rpartition("-")[0]


def _differences(rows: Rows, model: str, other: str) -> dict[str, float]:
    """Volume -> difference of two models in PSNR [dB]."""
    own, reference = ({r["volume"]: float(r["psnr"]) for r in rows if r["model"] == name} for name in (model, other))
    return {volume: own[volume] - reference[volume] for volume in own}


def _difference(rows: Rows, model: str, other: str, seed: int) -> Difference:
    """Their mean, with its bootstrap interval over patients."""
    differences = _differences(rows, model, other)
    patients = {row["volume"]: row["patient_id"] for row in rows}
    found = mean_with_interval(list(differences.values()), [patients[v] for v in differences], 0.95, seed=seed)
    low, high = found["interval"] or (math.nan, math.nan)
    return found["value"], low, high


def _measurable(gap: Difference, chance: Difference, others: Collection[float]) -> str:
    """Whether G's advantage over the oracle is more than chance.

    It has to exceed what another seed changes, and its interval has to exclude 0; a single patient has no interval and
    is compared with the differences of the patients who stay, ``others``.
    """
    if abs(gap[0]) <= abs(chance[0]):
        return "not measurable: another seed changes as much"
    if math.isnan(gap[1]):
        span = f"{min(others):+.2f} ... {max(others):+.2f} dB of {len(others)} other scans"
        return f"yes: above {span}" if gap[0] > max(others) else f"not measurable: not above {span}"
    return "yes" if gap[1] > 0 else "no, G is worse" if gap[2] < 0 else "not measurable: the interval holds 0"


def _text(difference: Difference) -> str:
    mean, low, high = difference
    return f"{mean:+.2f}" + ("" if math.isnan(low) else f" [{low:+.2f}, {high:+.2f}]")


def _quality(rows: Rows) -> str:
    (psnr, spread), (ssim, ssim_spread) = (mean_std([float(row[m]) for row in rows]) for m in ("psnr", "ssim"))
    return f"{psnr:.2f} ± {spread:.2f} / {ssim:.3f} ± {ssim_spread:.3f}"


def _record(weights: Path) -> dict:
    return json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))


def _cost(path: Path | None, oracle: Path) -> str:
    """Forward and backward passes as a share of the oracle's training."""
    if path is None:
        return "–"
    own, full = (sum(_record(p)["cost"][key] for key in ("forward_slices", "backward_slices")) for p in (path, oracle))
    return f"{100 * own / full:.1f} %"


def _print(columns: Sequence[str], table: Iterable[Sequence[str]]) -> None:
    print()
    for row in [columns, ["---"] * len(columns), *table]:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    fire.Fire(main)
