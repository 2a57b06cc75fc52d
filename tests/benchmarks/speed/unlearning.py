"""What unlearning costs beside training, from the records of both."""

from __future__ import annotations

import json
from pathlib import Path

import monai.bundle

from tests.benchmarks.speed.options import Options
from tests.benchmarks.speed.session import REPOSITORY
from tests.benchmarks.speed.table import Table

BUNDLE = REPOSITORY / "bundle"


def unlearning(options: Options) -> list[Table]:
    """Passes and time of the default method relative to the training of the original weights."""
    record = options.unlearn_record or _unlearn(options)
    training, forgetting = (json.loads(Path(path).read_text()) for path in (BUNDLE / "models/original.json", record))
    return [cost_table(training, forgetting)]


def cost_table(training: dict, unlearning: dict) -> Table:
    """Slices forward and backward, and seconds, of two run records."""
    costs = [record["cost"] for record in (training, unlearning)]
    rows = [
        [key.replace("_", " "), *(f"{cost[key]:.0f}" for cost in costs), f"{costs[1][key] / costs[0][key]:.3f}"]
        for key in ("forward_slices", "backward_slices", "seconds")
    ]
    method = unlearning.get("method", "unlearning")
    threads = [record["environment"]["threads"] for record in (training, unlearning)]
    note = f"From the run records; PyTorch's threads: {threads[0]} and {threads[1]}. All networks' passes count."
    return Table("Cost of unlearning", ["", "training", f"unlearning ({method})", "ratio"], rows, [note])


def _unlearn(options: Options) -> str:
    folder = options.folder.absolute() / "unlearn"
    monai.bundle.run(
        "unlearn",
        config_file=str(BUNDLE / "configs" / "unlearn.yaml"),
        output_dir=str(folder),
        evaluate_models=False,
        device=options.device,
    )
    return str(folder / "unlearned.json")
