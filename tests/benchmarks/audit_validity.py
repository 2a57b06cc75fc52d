"""Does the audit tell apart what it must? ``python -m tests.benchmarks.audit_validity``

Audits, on the phantom, models whose verdict is known beforehand, and prints a table: the original (not forgotten),
the oracle (forgotten), plain gradient ascent (over-forgotten), and the oracle's training with another seed
(forgotten). The verdict is the one that gates and control give: whether an oracle is shown to be one is another
question, which the records of the demo weights, older than the hashes of training files, leave open. Exits with 1
where a verdict is not the expected one. Trainings are kept in the output folder and are not repeated.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import fire
import monai.bundle

from scripts.audit.gates import overall

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
EXPECTED = {
    "original": "not forgotten",
    "oracle": "forgotten",
    "oracle, other seed": "forgotten",
    "gradient ascent": "over-forgotten",
}


def main(
    output_dir: str = "outputs/audit_validity",
    weights: str | None = None,
    oracle: str | None = None,
    seed: int = 2,
    overrides: dict | None = None,
    training: dict | None = None,
    **audit: object,
) -> None:
    """Train what is missing, audit the four models and print the table.

    Args:
        output_dir: for weights and audits.
        weights: original weights; None: those of the bundle, and if it has none, a training.
        oracle: likewise the oracle's.
        seed: of the second oracle; that of the bundle has 1.
        overrides: of every verb, e.g. ``"{'datalist': 'my.json'}"``.
        training: of the trainings, e.g. ``"{'train_epochs': 5}"``; has to be that of the given weights.
        audit: overrides of the audits, e.g. ``--relearning_steps 0``.
    """
    output, overrides, training = Path(output_dir), overrides or {}, training or {}
    logging.getLogger("ignite").setLevel(logging.WARNING)
    models = CONFIGS.parent / "models"
    weights = weights or _present(models / "original.pt") or _train(output / "original", False, 0, overrides | training)
    oracle = oracle or _present(models / "oracle.pt") or _train(output / "oracle", True, 0, overrides | training)
    second = _train(output / "oracle_seed", True, seed, overrides | training)
    ascent = _ascent(output / "gradient_ascent", weights, overrides)
    audited = dict(zip(EXPECTED, (weights, oracle, second, ascent), strict=True))
    rows = []
    for name, path in audited.items():
        folder = output / f"audit of {name}"
        settings = {"weights": weights, "oracle_weights": oracle, "unlearned_weights": path}
        _run("audit", output_dir=str(folder), run_record=False, **settings, **(overrides | audit))
        rows.append(_row(name, json.loads((folder / "audit.json").read_text(encoding="utf-8"))))
    columns = ["model", "expected", "verdict", "BTA gap", "KTA gap", "UA gap", "AUC − oracle's", "relearning steps"]
    for row in [columns, ["---"] * len(columns), *rows]:
        print("| " + " | ".join(row) + " |")
    if any(row[1] != row[2] for row in rows):
        sys.exit("a verdict is not the expected one")


def _row(name: str, result: dict) -> list[str]:
    found = result["measures"]
    gaps = [found["oracle_gap"][cohort]["psnr"]["gap"] for cohort in ("BTA", "KTA", "UA")]
    steps = found["relearning"].get("steps", "not measured")
    limit = found["relearning"].get("max_steps")
    return [
        name,
        EXPECTED[name],
        overall(result["gates"], result["control"]["sees_remembering"])["verdict"],
        *(f"{gap['value']:+.2f} [{gap['interval'][0]:+.2f}, {gap['interval'][1]:+.2f}] dB" for gap in gaps),
        f"{found['membership']['gain']['above']['value']:+.2f}",
        f"more than {limit}" if steps is None else str(steps),
    ]


def _present(path: Path) -> str | None:
    return str(path) if path.is_file() else None


def _train(folder: Path, oracle: bool, seed: int, overrides: dict) -> str:
    path = folder / ("oracle.pt" if oracle else "original.pt")
    if not path.is_file():
        _run("train", output_dir=str(folder), oracle=oracle, seed=seed, **overrides)
    return str(path)


def _ascent(folder: Path, weights: str, overrides: dict) -> str:
    path = folder / "unlearned.pt"
    if not path.is_file():
        settings = {"output_dir": str(folder), "weights": weights, "evaluate_models": False, **overrides}
        _run("unlearn", "methods/gradient_ascent.yaml", **settings)
    return str(path)


def _run(verb: str, *overlays: str, **overrides: object) -> None:
    files = [str(CONFIGS / name) for name in (f"{verb}.yaml", *overlays)]
    monai.bundle.run(verb, config_file=files, **overrides)


if __name__ == "__main__":
    fire.Fire(main)
