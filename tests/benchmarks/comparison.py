"""Every method beside the oracle, with settings fixed elsewhere and with settings tuned here:
``python -m tests.benchmarks.comparison``.

Runs the ``protocol`` verb with ``comparison.yaml`` (three seeds of each method, three oracles) and prints one table.
*Oracle-free* is each method as its overlay declares it. *Oracle-tuned* is the best of a small grid over the method's
main setting on the first seed: that whose largest shortfall, as `shortfall` counts it, is smallest. It needs the
oracle of the very data, so it is a bound on what tuning could give and nothing to deploy. Stopped, the command goes
on where it stopped.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import fire
import monai.bundle
import pandas as pd
import yaml
from monai.bundle import ConfigParser
from scipy.stats import ks_2samp

from scripts.evaluation.results import COHORTS
from scripts.protocol.plan import DEFAULT, ORACLE, ORIGINAL, UNLEARNED, Cell
from scripts.protocol.results import DELIVERED, Results, read_cells

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
GRIDS = {
    "default": ("budget", (0.1, 0.3)),
    "gain_target": ("kind_target#transfer", (0.2, 0.4)),
    "noisy_label_ft": ("method#0#std", (3e-5, 1e-4)),
    "blindspot": ("method#1#forget_weight", (0.1, 0.3)),
}
"""Method -> its main setting and what is tried beside the overlay's own value."""
MARGINS = {"BTA": 0.1, "KTA": 0.5, "UA": 0.5}
"""dB of PSNR within which a method counts as equal to the oracle; on BTA more than the oracle is no fault."""


def main(
    output_dir: str = "outputs/comparison", domain: str | None = None, tuned: bool = True, **overrides: object
) -> None:
    """Run what is missing and print the table.

    Args:
        output_dir: of the study; that of the tuning lies in it.
        domain: ``cells``, ``population``, ``mixed``, ...: an overlay in ``domains``; None: the built-in phantom.
        tuned: whether to run the grids too.
        overrides: of the protocol, e.g. ``--datalist my.json --weights False``.
    """
    logging.getLogger("ignite").setLevel(logging.WARNING)
    output = Path(output_dir)
    files = [CONFIGS / "protocol.yaml", CONFIGS / "comparison.yaml"]
    if domain:
        files.append(Path(__file__).parent / "domains" / f"{domain}.yaml")
    _protocol(files, output, **overrides)
    results = _read(output)
    grids = _tune(files, output, overrides, results) if tuned else None
    print("\n".join(_table(results, grids)))


def shortfall(gaps: dict[str, float]) -> float:
    """The largest gap to the oracle in units of its margin; a better BTA counts 0.

    >>> shortfall({"BTA": 0.3, "KTA": -0.25, "UA": 0.1})
    0.5
    """
    return max(max(-gaps["BTA"], 0.0) / MARGINS["BTA"], *(abs(gaps[c]) / MARGINS[c] for c in ("KTA", "UA")))


def _protocol(files: Sequence[Path], output: Path, **settings: object) -> None:
    config_file = [str(file) for file in files]
    monai.bundle.run("protocol", config_file=config_file, logging_file=False, output_dir=str(output), **settings)


def _tune(files: Sequence[Path], output: Path, overrides: dict, results: Results) -> Results:
    """Each grid value as a method of its own, on the first seed."""
    configs = output / "tuning_configs"
    shutil.rmtree(configs, ignore_errors=True)
    shutil.copytree(CONFIGS, configs, ignore=shutil.ignore_patterns("metadata.json"))  # with it, a bundle's folder
    run = set(results.runs.method)
    names = []
    for method, (key, values) in GRIDS.items():
        for value in values if method in run else ():
            names.append(f"{method}_{value:g}")
            _overlay(configs, method, key, value, names[-1])
    given = {
        "weights": _weights(results, ORIGINAL)[0],
        "oracle_weights": _weights(results, ORACLE),
        "methods": names,
        "seeds": [int(results.runs.seed[results.runs.role == UNLEARNED].min())],
        "configs": str(configs),
    }
    for source in (output / "cells").glob("forget_only/seed-*"):  # the same model: not trained again
        shutil.copytree(source, output / "tuning" / "cells" / "forget_only" / source.name, dirs_exist_ok=True)
    _protocol(files, output / "tuning", **{**overrides, **given})
    return _read(output / "tuning")


def _overlay(configs: Path, method: str, key: str, value: float, name: str) -> None:
    """Write an overlay that is a method's own but for one value."""
    file = configs / "methods" / f"{method}.yaml"
    content = ConfigParser.load_config_file(str(file)) if method != DEFAULT else {}
    text = yaml.safe_dump(content | {"method_name": name, key: value}, sort_keys=False)
    file.with_name(f"{name}.yaml").write_text(text, encoding="utf-8")


def _read(output: Path) -> Results:
    root = output / "cells"
    records = {}
    for file in sorted(root.rglob("cell.json")):
        records[str(file.parent.relative_to(root))] = json.loads(file.read_text(encoding="utf-8"))
    cells = [Cell(**record["cell"]) for record in records.values()]
    return read_cells(cells, records, root)


def _weights(results: Results, role: str) -> list[str]:
    return list(results.runs.weights[results.runs.role == role])


def _table(results: Results, grids: Results | None) -> list[str]:
    runs = results.runs.assign(passes=results.runs.forward_slices + results.runs.backward_slices)
    training = runs.passes[runs.role == ORACLE].mean()
    columns = ["method", "BTA gap", "KTA gap", "UA gap", "KS p", "passes", "in margins", "oracle-tuned: setting"]
    columns += ["BTA gap", "KTA gap", "UA gap"]
    lines = ["| " + " | ".join(row) + " |" for row in (columns, ["---"] * len(columns))]
    oracle = _psnr(results, runs.role == ORACLE)
    for model, own in runs[runs.role.isin([ORIGINAL, UNLEARNED])].groupby("model", sort=False):
        psnr, method = _psnr(results, runs.model == model), own.method.iloc[0]
        gaps = _gaps(psnr, oracle)
        p = {c: float(ks_2samp(psnr[c], oracle[c]).pvalue) for c in COHORTS}
        good = shortfall(gaps) <= 1 and min(p.values()) > 0.05
        cost = f"{100 * own.passes.mean() / training:.1f} %" if method else "–"
        row = [model, *(f"{gaps[c]:+.2f}" for c in COHORTS)]
        row += [" / ".join(f"{p[c]:.2f}" for c in COHORTS), cost, "yes" if good else "no"]
        lines.append("| " + " | ".join(row + _tuned(method, results, grids, oracle)) + " |")
    return lines


def _tuned(method: str, results: Results, grids: Results | None, oracle: pd.Series) -> list[str]:
    """Setting and gaps of the best of a method's grid, its own setting included, on the grid's seed."""
    if method not in GRIDS or grids is None:
        return ["–"] * 4
    own = results.runs[results.runs.method == method]
    tried = {"as it is": _psnr(results, own.cell[own.seed == own.seed.min()])}
    for value in GRIDS[method][1]:
        tried[f"{value:g}"] = _psnr(grids, grids.runs.method == f"{method}_{value:g}")
    gaps = {setting: _gaps(psnr, oracle) for setting, psnr in tried.items() if len(psnr)}
    best = min(gaps, key=lambda setting: shortfall(gaps[setting]))
    name = best if best == "as it is" else f"{GRIDS[method][0].rpartition('#')[2]} {best}"
    return [name, *(f"{gaps[best][cohort]:+.2f}" for cohort in COHORTS)]


def _psnr(results: Results, chosen: pd.Series) -> pd.Series:
    """PSNR of each volume, mean over the runs that are chosen (by a mask or by name), by cohort and volume."""
    cells = results.runs.cell[chosen] if chosen.dtype == bool else chosen
    scores = results.scores[results.scores.cell.isin(cells) & (results.scores.state == DELIVERED)]
    return scores[scores.metric == "psnr"].groupby(["cohort", "volume"]).value.mean()


def _gaps(own: pd.Series, oracle: pd.Series) -> dict[str, float]:
    """Cohort -> mean PSNR minus the oracles', dB."""
    return {cohort: float(own[cohort].mean() - oracle[cohort].mean()) for cohort in COHORTS}


if __name__ == "__main__":
    fire.Fire(main)
