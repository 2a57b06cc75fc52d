"""What forgetting costs and what it leaves: ``python -m tests.benchmarks.frontier --domain small_phantom``.

For each budget, a share of training's backward passes, and each method: PSNR and SSIM beside the oracle's as delivered,
and again after training went on with the retain set alone, by 15 % of training's passes (*later*; the oracle treated
alike). Beside them stands a control from scratch: a fresh network that learns J on the same retain subset at the same
cost. Prints a Markdown table and writes frontier.png. Stopped, the command resumes where it stopped.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import matplotlib
import monai.bundle
import torch
from monai.bundle import ConfigParser

from scripts.networks import save_weights
from scripts.unlearning.blind_teacher import initialise

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
SCRATCH = "from scratch"
LATER = {"retain_fraction": 1.0, "budget": 0.15, "learning_rate": 1e-3}
"""Training that goes on with all of the retain set."""
COHORTS = ("BTA", "KTA", "UA")

Values = dict[str, dict[str, float]]  # cohort -> psnr and ssim
Row = tuple[str, float, Values, Values]  # method, budget, less the oracle's: as delivered and later


def main(
    domain: str = "small_phantom",
    output_dir: str | None = None,
    methods: Sequence[str] = ("default", "gain_target", SCRATCH),
    budgets: Sequence[float] = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5),
    seed: int = 0,
) -> None:
    """Run what is missing and print the table.

    Args:
        domain: An overlay in ``domains``.
        output_dir: The folder of all runs; default ``outputs/frontier/<domain>``.
        methods: Overlays; ``default``, the method of ``unlearn.yaml``; ``from scratch``, the control.
        budgets: Shares of training's backward passes.
        seed: The seed of the trainings, the retain subset and the methods.
    """
    logging.getLogger("ignite").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    output = Path(output_dir or f"outputs/frontier/{domain}")
    settings = _settings(domain, seed)
    original, oracle = (_train(output / name, name == "oracle", settings) for name in ("original", "oracle"))
    later = _later(output / "oracle", oracle, settings)
    references = {"delivered": _measured(later, "G"), "later": _measured(later, "unlearned")}
    rows = []
    for method in methods:
        for budget in budgets:
            folder = output / method.replace(" ", "_") / f"{budget:g}"
            weights = _fresh(output, settings) if method == SCRATCH else original
            _unlearn(folder, method, {"weights": str(weights), "budget": budget, **settings["unlearn"]})
            continued = _later(folder, folder / "unlearned.pt", settings)
            delivered, after = _measured(folder, "unlearned"), _measured(continued, "unlearned")
            rows.append((method, budget, _less(delivered, references["delivered"]), _less(after, references["later"])))
    print("\n".join(_table(rows)))
    _draw(rows, output / "frontier.png", domain)


def _settings(domain: str, seed: int) -> dict[str, dict[str, Any]]:
    """What each verb takes of a domain's file."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.yaml"), str(Path(__file__).parent / "domains" / f"{domain}.yaml")])
    given = ConfigParser.load_config_file(str(Path(__file__).parent / "domains" / f"{domain}.yaml"))
    common = {key: given[key] for key in ("network", "mask", "train_epochs", "forget_request") if key in given}
    common |= {"datalist": parser.get_parsed_content("datalist"), "seed": seed}
    return {"train": {**common, **given.get("train_settings", {})}, "unlearn": common}


def _train(folder: Path, oracle: bool, settings: Mapping) -> Path:
    weights = folder / ("oracle.pt" if oracle else "original.pt")
    if not weights.is_file():
        _run("train", folder, oracle=oracle, **settings["train"])
    return weights


def _fresh(output: Path, settings: Mapping) -> Path:
    """Weights as they are drawn, of the network of a domain."""
    weights = output / "fresh.pt"
    if not weights.is_file():
        network = ConfigParser(settings["unlearn"]).get_parsed_content("network")
        initialise(network, settings["unlearn"]["seed"])
        save_weights(network, weights)
    return weights


def _unlearn(folder: Path, method: str, settings: Mapping) -> None:
    if (folder / "metrics.json").is_file():
        return
    if method == SCRATCH:
        _run("unlearn", folder, "methods/fine_tune.yaml", **{**settings, "learning_rate": 2e-3})
    else:
        _run("unlearn", folder, *([] if method == "default" else [f"methods/{method}.yaml"]), **settings)


def _later(folder: Path, weights: Path, settings: Mapping) -> Path:
    """The folder of a run that goes on from some weights; there they are called G, what follows ``unlearned``."""
    later = folder / "later"
    if not (later / "metrics.json").is_file():
        _run("unlearn", later, "methods/fine_tune.yaml", **{**settings["unlearn"], "weights": str(weights), **LATER})
    return later


def _run(verb: str, folder: Path, *overlays: str, **settings: Any) -> None:
    files = [str(CONFIGS / name) for name in (f"{verb}.yaml", *overlays)]
    own = {} if verb == "train" else {"oracle_weights": None}
    monai.bundle.run(verb, config_file=files, output_dir=str(folder), check_values=False, **own, **settings)


def _measured(folder: Path, model: str) -> Values:
    results = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))[model]
    return {c: {m: results[c][m]["mean"] for m in ("psnr", "ssim")} for c in COHORTS}


def _less(own: Values, reference: Values) -> Values:
    return {c: {m: own[c][m] - reference[c][m] for m in own[c]} for c in own}


def _table(rows: Sequence[Row]) -> list[str]:
    columns = ["method", "passes", *COHORTS, *(f"later {cohort}" for cohort in COHORTS)]
    lines = ["| " + " | ".join(row) + " |" for row in (columns, ["---", *["---:"] * (len(columns) - 1)])]
    for method, budget, *gaps in rows:
        cells = [f"{gap[c]['psnr']:+.2f} / {gap[c]['ssim']:+.3f}" for gap in gaps for c in COHORTS]
        lines.append("| " + " | ".join([method, f"{100 * budget:g} %", *cells]) + " |")
    return lines


def _draw(rows: Sequence[Row], path: Path, domain: str) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for method in dict.fromkeys(row[0] for row in rows):
        own = [row for row in rows if row[0] == method]
        shares = [100 * row[1] for row in own]
        left.plot(shares, [row[2]["BTA"]["psnr"] for row in own], "o-", label=method)
        right.plot(shares, [max(abs(row[3][c]["psnr"]) for c in ("KTA", "UA")) for row in own], "o-", label=method)
    left.axhspan(-0.3, left.get_ylim()[1], color="0.92", zorder=0)
    right.axhspan(0, 0.5, color="0.92", zorder=0)
    left.set(title=f"{domain}: retained anatomy", ylabel="BTA less the oracle's [dB]")
    right.set(title="forgotten kind, after training went on", ylabel="larger gap of KTA and UA [dB]")
    for axis in (left, right):
        axis.set(xlabel="backward passes [% of training's]")
    left.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    fire.Fire(main)
