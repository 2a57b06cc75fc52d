"""Does the audit tell apart what it must? ``python -m tests.benchmarks.audit_validity``

Audits, on the phantom, models whose verdict is known beforehand, and prints a table: the original (not forgotten),
the oracle and the oracle's training with another seed (forgotten), the gain target, which meets the oracle's figures
and hides what it knows (suppressed), and plain gradient ascent (over-forgotten). The verdict is the one that gates and
control give: whether an oracle is shown to be one is another question, which the records of the demo weights, older
than the hashes of training files, leave open. Exits with 1 where a verdict is not the expected one. Trainings are kept
in the output folder and are not repeated.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import fire
import monai.bundle

from scripts.audit.gates import overall
from scripts.audit.statistics import NOT_MEASURED, is_measured
from scripts.audit.tables import spread

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
EXPECTED = {
    "original": "not forgotten",
    "oracle": "forgotten",
    "oracle, other seed": "forgotten",
    "gain target": "suppressed",
    "gradient ascent": "over-forgotten",
}
COLUMNS = ("model", "expected", "verdict", "BTA gap", "KTA gap", "UA gap", "AUC − oracle's", "enhancement")
LATER = ("KTA rise on retained data", "UA rise on retained data", "relearning: area", "relearning: steps")


def main(
    output_dir: str = "outputs/audit_validity",
    weights: str | None = None,
    oracle: str | None = None,
    seed: int = 2,
    only: Sequence[str] = tuple(EXPECTED),
    overrides: dict | None = None,
    training: dict | None = None,
    **audit: object,
) -> None:
    """Train what is missing, audit the models and print the table.

    Args:
        output_dir: the folder of weights and audits.
        weights: original weights; None: those of the bundle, and if it has none, a training.
        oracle: likewise the oracle's.
        seed: the seed of the second oracle; that of the bundle has 1.
        only: the models to audit, by the names in the table.
        overrides: overrides of every verb, e.g. ``"{'datalist': 'my.json'}"``.
        training: overrides of the trainings, e.g. ``"{'train_epochs': 5}"``; they have to be those of the given
            weights.
        audit: overrides of the audits, e.g. ``--relearning_steps 0``.
    """
    output, overrides, training = Path(output_dir), overrides or {}, training or {}
    logging.getLogger("ignite").setLevel(logging.WARNING)
    models = CONFIGS.parent / "models"
    weights = weights or _present(models / "original.pt") or _train(output / "original", False, 0, overrides | training)
    oracle = oracle or _present(models / "oracle.pt") or _train(output / "oracle", True, 0, overrides | training)
    make = {
        "original": lambda: weights,
        "oracle": lambda: oracle,
        "oracle, other seed": lambda: _train(output / "oracle_seed", True, seed, overrides | training),
        "gain target": lambda: _unlearn(output, "gain_target", weights, overrides),
        "gradient ascent": lambda: _unlearn(output, "gradient_ascent", weights, overrides),
    }
    rows = []
    for name in only:
        folder = output / f"audit of {name}"
        settings = {"weights": weights, "oracle_weights": oracle, "unlearned_weights": make[name]()}
        _run("audit", output_dir=str(folder), run_record=False, **settings, **(overrides | audit))
        rows.append(_row(name, json.loads((folder / "audit.json").read_text(encoding="utf-8"))))
    for row in [[*COLUMNS, *LATER], ["---"] * len(COLUMNS + LATER), *rows]:
        print("| " + " | ".join(row) + " |")
    if any(row[1] != row[2] for row in rows):
        sys.exit("a verdict is not the expected one")


def _row(name: str, result: dict) -> list[str]:
    found = result["measures"]
    gaps = [found["oracle_gap"][cohort]["psnr"]["gap"] for cohort in ("BTA", "KTA", "UA")]
    again, known = found["resurfacing"], found["relearning"]
    rises = [again[cohort]["psnr"]["rise"] if is_measured(again) else again for cohort in ("KTA", "UA")]
    steps = "more than the audit takes" if known.get("steps") is None else str(known["steps"])
    return [
        name,
        EXPECTED[name],
        overall(result["gates"], result["control"]["sees_remembering"])["verdict"],
        *(f"{spread(gap, 2, True)} dB" for gap in gaps),
        spread(found["membership"]["gain"]["above"], 2, True),
        spread(found["hallucination"]["enhancement"]),
        *(f"{spread(rise, 2, True)} dB" for rise in rises),
        f"{spread(known['psnr']['area'], 2, True)} dB" if is_measured(known) else NOT_MEASURED,
        steps if is_measured(known) else NOT_MEASURED,
    ]


def _present(path: Path) -> str | None:
    return str(path) if path.is_file() else None


def _train(folder: Path, oracle: bool, seed: int, overrides: dict) -> str:
    path = folder / ("oracle.pt" if oracle else "original.pt")
    if not path.is_file():
        _run("train", output_dir=str(folder), oracle=oracle, seed=seed, **overrides)
    return str(path)


def _unlearn(output: Path, method: str, weights: str, overrides: dict) -> str:
    folder = output / method
    path = folder / "unlearned.pt"
    if not path.is_file():
        settings = {"output_dir": str(folder), "weights": weights, "evaluate_models": False, **overrides}
        _run("unlearn", f"methods/{method}.yaml", **settings)
    return str(path)


def _run(verb: str, *overlays: str, **overrides: object) -> None:
    files = [str(CONFIGS / name) for name in (f"{verb}.yaml", *overlays)]
    monai.bundle.run(verb, config_file=files, **overrides)


if __name__ == "__main__":
    fire.Fire(main)
