"""Does the audit tell apart what it must? ``python -m tests.benchmarks.audit_validity``

Trains, on a small domain, an original and three oracles that differ in their seed, makes models whose verdict is known
beforehand, audits each with the settings of ``audit.yaml`` and prints two tables: the verdicts, and the value of every
gate beside its limit. Two oracles audited beside the others show how much of each margin honest retraining uses.

The original has *not forgotten*; an oracle has *forgotten*; ``gain_target`` meets the oracle's figures and hides what
it knows (*suppressed*); plain ascent is *over-forgotten*; a network healed from random weights has *forgotten*: its
recipe, not its memory, sets it apart from the oracle. It is judged by the oracle treated alike, and so is the default,
whose verdict is not known beforehand. Exits with 1 where a verdict is not the expected one. Stopped, the command goes
on where it stopped.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import monai.bundle
import torch

from scripts.audit.measure import with_interval
from tests.benchmarks.frontier import domain_settings

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
EXPECTED = {
    "original": "not forgotten",
    "oracle 1": "forgotten",
    "oracle 2": "forgotten",
    "gain_target": "suppressed",
    "gradient_ascent": "over-forgotten",
    "fresh_weights": "forgotten",
    "fresh_weights, whole retain set": "forgotten",
    "reset_and_heal": "",
}
TREATED = ("fresh_weights", "reset_and_heal")
"""Methods that read retained data alone and are judged by the oracle treated alike."""


def main(
    domain: str = "validity",
    output_dir: str | None = None,
    only: Sequence[str] = tuple(EXPECTED),
    **audit: object,
) -> None:
    """Run what is missing and print the tables.

    Args:
        domain: An overlay in ``domains``.
        output_dir: The folder of all runs; default ``outputs/audit_validity/<domain>``.
        only: The models to audit, by the names in the table; those that unlearn also as, e.g.,
            ``"reset_and_heal, seed 1"``, with another retain subset and other fresh weights.
        audit: Overrides of the audits, e.g. ``--relearning_steps 20``.
    """
    logging.getLogger("ignite").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    output, settings = Path(output_dir or f"outputs/audit_validity/{domain}"), domain_settings(domain)
    original = _train(output / "original", settings["train"], 0, oracle=False)
    oracles = [_train(output / f"oracle {seed}", settings["train"], seed, oracle=True) for seed in range(3)]
    found = {}
    for name in only:
        given = {
            "weights": original,
            "oracle_weights": oracles[0],
            **_audited(name, output, settings, original, oracles),
        }
        folder = output / f"audit of {name}"
        if not (folder / "audit.json").is_file():
            common = {key: value for key, value in settings["unlearn"].items() if key != "train_epochs"}
            _run("audit", folder, **{**common, "certificate": False, **given, **audit})
        found[name] = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    print("\n".join([*_verdicts(found), "", *_gates(found)]))
    wrong = [name for name, result in found.items() if _expected(name) not in ("", result["verdict"]["verdict"])]
    if wrong:
        sys.exit(f"a verdict is not the expected one: {', '.join(wrong)}")


def _expected(name: str) -> str:
    return EXPECTED.get(name) or EXPECTED.get(name.partition(", seed")[0], "")


def _audited(name: str, output: Path, settings: Mapping, original: str, oracles: Sequence[str]) -> dict[str, Any]:
    """What an audit of a model is given beside original and first oracle; what is missing is made."""
    if name == "original":
        return {"unlearned_weights": original, "run_record": False, "oracle_seeds": oracles[1:]}
    if name.startswith("oracle"):
        own = oracles[int(name.split()[1])]
        others = [path for path in oracles[1:] if path != own]
        return {"unlearned_weights": own, "run_record": False, "oracle_seeds": others}
    method, _, variant = name.partition(", ")
    other = {"retain_fraction": 1.0} if variant.startswith("whole") else {}
    if variant.startswith("seed"):
        other = {"seed": int(variant.split()[1])}
    chosen = {**settings["unlearn"], **other}
    files = ["approximate.yaml", f"methods/{method}.yaml"]
    weights = _unlearn(output / name, files, {**chosen, "weights": original})
    given = {"unlearned_weights": weights, "oracle_seeds": oracles[1:]}
    if method in TREATED:
        alike = {"weights": oracles[0], "like": str(Path(weights).with_suffix(".json"))}
        files.append("treated_oracle.yaml")
        given["treated_oracle_weights"] = _unlearn(output / f"{name}, oracle", files, {**chosen, **alike})
    return given


def _train(folder: Path, settings: Mapping, seed: int, oracle: bool) -> str:
    path = folder / ("oracle.pt" if oracle else "original.pt")
    if not path.is_file():
        _run("train", folder, oracle=oracle, **{**settings, "seed": seed})
    return str(path)


def _unlearn(folder: Path, overlays: Sequence[str], settings: Mapping) -> str:
    path = folder / "unlearned.pt"
    if not path.with_suffix(".json").is_file():
        given = {"evaluate_models": False, "oracle_weights": False, "enter_in_ledger": False}
        _run("unlearn", folder, *overlays, **{**settings, **given})
    return str(path)


def _run(verb: str, folder: Path, *overlays: str, **settings: Any) -> None:
    files = [str(CONFIGS / name) for name in (f"{verb}.yaml", *overlays)]
    given = {"ledger": False, "check_values": False, "overwrite": True, **settings}
    monai.bundle.run(verb, config_file=files, output_dir=str(folder), **given)


def _verdicts(found: Mapping[str, Mapping]) -> list[str]:
    columns = [
        "model",
        "expected",
        "verdict",
        "because of",
        *(f"{c} less the oracle as trained" for c in ("BTA", "KTA", "UA")),
    ]
    rows = []
    for name, result in found.items():
        alone = result["measures"]["recipe"]
        gaps = alone.get("with_memory", result["measures"]["oracle_gap"])
        because = "; ".join(text.partition(":")[0] for text in result["verdict"]["because"])
        cells = [f"{with_interval(gaps[c]['psnr']['gap'], 2, True)} dB" for c in ("BTA", "KTA", "UA")]
        rows.append([name, _expected(name) or "not known", result["verdict"]["verdict"], because, *cells])
    return _table(columns, rows)


def _gates(found: Mapping[str, Mapping]) -> list[str]:
    """Each gate: its limit, and its value for each model."""
    first = next(iter(found.values()))
    rows = []
    for index, gate in enumerate(first["gates"]):
        limit = f"≥ {gate['at_least']}" if "at_least" in gate else f"≤ {gate['at_most']}"
        values = [result["gates"][index] for result in found.values()]
        rows.append([gate["measure"], limit, *(f"{with_interval(v, 3, True)} {v['verdict']}" for v in values)])
    return _table(["measure", "limit", *found], rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (columns, ["---"] * len(columns), *rows)]


if __name__ == "__main__":
    fire.Fire(main)
