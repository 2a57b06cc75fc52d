"""What unlearning costs beside training, from the records of both; and one forward for two batches."""

from __future__ import annotations

import json
from pathlib import Path

import monai.bundle
import torch

from scripts.networks import VarNet
from tests.benchmarks.speed.network import CASES, PASSES, write_case
from tests.benchmarks.speed.options import Options
from tests.benchmarks.speed.session import REPOSITORY, in_turns
from tests.benchmarks.speed.table import Table, milliseconds, ratio

BUNDLE = REPOSITORY / "bundle"


def unlearning(options: Options) -> list[Table]:
    """Passes and time of the default method relative to the training of the original weights."""
    record = options.unlearn_record or _unlearn(options)
    training, forgetting = (json.loads(Path(path).read_text()) for path in (BUNDLE / "models/original.json", record))
    return [cost_table(training, forgetting), _joined(options)]


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
    )
    return str(folder / "unlearned.json")


def _joined(options: Options) -> Table:
    """A step on two batches of one against a step on one batch of two: equal, and how fast."""
    arguments, shape = CASES["demo"]
    path = write_case(options.folder / "two.pt", arguments, shape, batch=2)
    content = torch.load(path)
    network = VarNet(**arguments)
    network.load_state_dict(content["state"])
    with torch.no_grad():
        together = network(content["masked_kspace"], content["mask"])
        apart = torch.cat([network(content["masked_kspace"][i : i + 1], content["mask"][i : i + 1]) for i in (0, 1)])
    error = float((together - apart).abs().max() / apart.abs().max())
    assert error < 1e-5, f"a batch of two differs from two batches of one by {error:.1e}"
    single = write_case(options.folder / "one.pt", arguments, shape)
    with options.worker() as one, options.worker() as two:
        one.ask("load_network", kind="ours", case=single)
        two.ask("load_network", kind="ours", case=path)
        rows = []
        for job in ("forward", "step"):
            measures = {"apart": lambda job=job: one.ask(job) + one.ask(job), "together": lambda job=job: two.ask(job)}
            times = in_turns(measures, options.repeats, PASSES["demo"])
            cells = [milliseconds(times[key]) for key in ("apart", "together")]
            rows.append([job, *cells, ratio(times["apart"], times["together"])])
    note = f"Demo size. Images differ by {error:.0e}."
    return Table("Two batches of one, or one of two", ["pass", "apart [ms]", "together [ms]", "ratio"], rows, [note])
