"""What forgetting costs and what it leaves: ``python -m tests.benchmarks.frontier --domain small_phantom``.

For each budget, a share of the backward passes of one training on the retained scans, and each method: PSNR and SSIM
less the oracle's as delivered, and again after training went on with the retain set alone, by 15 % of those passes
(*later*); mean over the seeds and range. ``default`` restarts from the prior of the domain, made once. Two controls:
``fresh_weights`` learns in the same way from nothing, ``from scratch`` learns J with Adam. Prints a Markdown table and
writes frontier.csv, a line a seed, and frontier.png. Stopped, the command resumes.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import fire
import matplotlib
import monai.bundle
import torch
from monai.bundle import ConfigParser

from scripts.networks import save_weights
from scripts.unlearning.fit import initialise

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
SCRATCH = "from scratch"
LATER = {"retain_fraction": 1.0, "budget": 0.15, "learning_rate": 1e-3}
"""Training that goes on with all of the retain set."""
COHORTS = ("BTA", "KTA", "UA")

Values = dict[str, dict[str, float]]  # cohort -> psnr and ssim
Row = tuple[str, float, list[Values], list[Values]]  # method, budget, each seed less the oracle: as delivered and later


def main(
    domain: str = "small_phantom",
    output_dir: str | None = None,
    methods: Sequence[str] = ("default",),
    budgets: Sequence[float] = (0.02, 0.05, 0.1, 0.2, 0.3),
    seeds: Sequence[int] = (0, 1, 2),
    later: bool = True,
    network: str | None = None,
    **settings: Any,
) -> None:
    """Run what is missing and print the table.

    Args:
        domain: An overlay in ``domains``.
        output_dir: The folder of all runs; default ``outputs/frontier/<domain>``.
        methods: Overlays; ``default``, the method of ``unlearn.yaml``; ``from scratch``.
        budgets: Shares of training's backward passes.
        seeds: Each draws another retain subset. The two trainings and the prior have seed 0.
        later: Whether training goes on afterwards.
        network: An overlay in ``bundle/configs/networks`` in place of the domain's network; it is trained anew.
        settings: Further settings of ``unlearn``, e.g. ``--retain_fraction 1.0``.
    """
    logging.getLogger("ignite").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    name = f"{domain}-{network}" if network else domain
    output = Path(output_dir or f"outputs/frontier/{name}")
    given = domain_settings(domain, network)
    given["unlearn"] |= settings
    original, oracle = (_train(output / name, name == "oracle", given) for name in ("original", "oracle"))
    continued = _later(output / "oracle", oracle, given)
    references = {"delivered": _measured(continued, "original"), "later": _measured(continued, "unlearned")}
    rows = [
        (
            "original",
            0.0,
            [_less(_measured(_compared(output, original, given), "original"), references["delivered"])],
            [],
        )
    ]
    for method in methods:
        for budget in budgets:
            delivered, after = [], []
            for seed in seeds:
                folder = output / method.replace(" ", "_") / f"{budget:g}" / f"seed-{seed}"
                weights = _fresh(output, given, seed) if method == SCRATCH else original
                own = {"weights": str(weights), "budget": budget, "seed": seed}
                _unlearn(folder, method, {**given["unlearn"], **own})
                delivered.append(_less(_measured(folder, "unlearned"), references["delivered"]))
                if later:
                    after.append(
                        _less(
                            _measured(_later(folder, folder / "unlearned.pt", given), "unlearned"), references["later"]
                        )
                    )
            rows.append((method, budget, delivered, after))
            print("\n".join(_table(rows)), flush=True)
    _write(rows, seeds, output / "frontier.csv")
    _draw(rows, output / "frontier.png", name)


def domain_settings(domain: str, network: str | None = None) -> dict[str, Any]:
    """What each verb takes of a domain's file, with another network where one is named."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.yaml"), str(Path(__file__).parent / "domains" / f"{domain}.yaml")])
    given = ConfigParser.load_config_file(str(Path(__file__).parent / "domains" / f"{domain}.yaml"))
    common = {key: given[key] for key in ("network", "mask", "train_epochs", "forget_request") if key in given}
    common |= {"datalist": parser.get_parsed_content("datalist"), "seed": 0}
    if network:
        common["network"] = ConfigParser.load_config_file(str(CONFIGS / "networks" / f"{network}.yaml"))["network"]
    trained = None if network else given.get("trained")  # a folder with original.pt and oracle.pt
    return {"train": {**common, **given.get("train_settings", {})}, "unlearn": common, "trained": trained}


def _train(folder: Path, oracle: bool, settings: Mapping) -> Path:
    name = "oracle.pt" if oracle else "original.pt"
    if settings["trained"]:
        return Path(settings["trained"], name).absolute()
    weights = folder / name
    if not weights.is_file():
        _run("train", folder, oracle=oracle, **settings["train"])
    return weights


def _fresh(output: Path, settings: Mapping, seed: int) -> Path:
    """Weights as they are drawn, of the network of a domain."""
    weights = output / f"fresh-{seed}.pt"
    if not weights.is_file():
        network = ConfigParser(settings["unlearn"]).get_parsed_content("network")
        initialise(network, seed)
        save_weights(network, weights)
    return weights


def _unlearn(folder: Path, method: str, settings: Mapping) -> None:
    if (folder / "metrics.json").is_file():
        return
    if method == SCRATCH:
        _run("unlearn", folder, "approximate.yaml", "methods/fine_tune.yaml", **{**settings, "learning_rate": 2e-3})
    elif method == "default":
        _run("unlearn", folder, **settings)
    else:
        _run("unlearn", folder, "approximate.yaml", f"methods/{method}.yaml", **settings)


def _later(folder: Path, weights: Path, settings: Mapping) -> Path:
    """The folder of a run that goes on from some weights; there they are called G, what follows ``unlearned``."""
    later = folder / "later"
    if not (later / "metrics.json").is_file():
        own = {**settings["unlearn"], "weights": str(weights), **LATER}
        _run("unlearn", later, "approximate.yaml", "methods/fine_tune.yaml", **own)
    return later


def _compared(output: Path, original: Path, settings: Mapping) -> Path:
    """The folder of a run whose results hold the original's: the shortest possible."""
    folder = output / "original" / "compared"
    _unlearn(folder, "default", {**settings["unlearn"], "weights": str(original), "budget": 1e-9})
    return folder


def _run(verb: str, folder: Path, *overlays: str, **settings: Any) -> None:
    files = [str(CONFIGS / name) for name in (f"{verb}.yaml", *overlays)]
    given = {"ledger": False, "enter_in_ledger": False, "check_values": False, **settings}
    if verb != "train":
        given["oracle_weights"] = False
    monai.bundle.run(verb, config_file=files, output_dir=str(folder), **given)


def _measured(folder: Path, model: str) -> Values:
    results = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))[model]
    return {c: {m: results[c][m]["mean"] for m in ("psnr", "ssim")} for c in COHORTS}


def _less(own: Values, reference: Values) -> Values:
    return {c: {m: own[c][m] - reference[c][m] for m in own[c]} for c in own}


def _table(rows: Sequence[Row]) -> list[str]:
    columns = ["method", "passes", *COHORTS, *(f"later {cohort}" for cohort in COHORTS)]
    lines = ["| " + " | ".join(row) + " |" for row in (columns, ["---", *["---:"] * (len(columns) - 1)])]
    for method, budget, *gaps in rows:
        cells = [_cell([gap[c] for gap in seeds]) if seeds else "" for seeds in gaps for c in COHORTS]
        lines.append("| " + " | ".join([method, f"{100 * budget:g} %", *cells]) + " |")
    return lines


def _cell(gaps: Sequence[Mapping[str, float]]) -> str:
    """Mean of PSNR and SSIM over seeds and, of several, the lowest and the highest.

    >>> _cell([{"psnr": -0.5, "ssim": 0.01}, {"psnr": 0.25, "ssim": 0.03}])
    '-0.12 (-0.50 to +0.25) / +0.020 (+0.010 to +0.030)'
    """
    parts = []
    for name, digits in (("psnr", 2), ("ssim", 3)):
        values = [gap[name] for gap in gaps]
        spread = f" ({min(values):+.{digits}f} to {max(values):+.{digits}f})" if len(values) > 1 else ""
        parts.append(f"{mean(values):+.{digits}f}{spread}")
    return " / ".join(parts)


def _write(rows: Sequence[Row], seeds: Sequence[int], path: Path) -> None:
    """One line for each method, budget, seed and cohort, as delivered and later, less the oracle's."""
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["method", "budget", "seed", "when", "cohort", "psnr_less_oracle", "ssim_less_oracle"])
        for method, budget, *both in rows:
            for when, gaps in zip(("delivered", "later"), both, strict=True):
                for seed, gap in zip(seeds, gaps, strict=False):
                    for cohort, values in gap.items():
                        numbers = f"{values['psnr']:.4f}", f"{values['ssim']:.5f}"
                        lines.writerow([method, budget, seed, when, cohort, *numbers])


def _draw(rows: Sequence[Row], path: Path, domain: str) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for method in dict.fromkeys(row[0] for row in rows if row[3]):
        own = [row for row in rows if row[0] == method]
        shares = [100 * row[1] for row in own]
        left.plot(shares, [_psnr(row[2], "BTA") for row in own], "o-", label=method)
        right.plot(shares, [max(abs(_psnr(row[3], c)) for c in ("KTA", "UA")) for row in own], "o-", label=method)
    left.axhspan(-0.3, left.get_ylim()[1], color="0.92", zorder=0)
    right.axhspan(0, 0.5, color="0.92", zorder=0)
    left.set(title=f"{domain}: retained anatomy", ylabel="BTA less the oracle's [dB]")
    right.set(title="forgotten kind, after training went on", ylabel="larger gap of KTA and UA [dB]")
    for axis in (left, right):
        axis.set(xlabel="backward passes [% of training's]")
    left.legend()
    figure.savefig(path, dpi=110)


def _psnr(seeds: Sequence[Values], cohort: str) -> float:
    return mean(values[cohort]["psnr"] for values in seeds)


if __name__ == "__main__":
    fire.Fire(main)
