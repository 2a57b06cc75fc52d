"""Ten requests, one after the other: ``python -m tests.benchmarks.request_stream --domain mixed``

Trains one original, carries out ten requests of growing kind, each on the weights that the one before has left and with
one ledger, those of patients by one method and those of kinds by another, and trains an oracle beside each position of
the stream, which never saw anything erased up to there. An unlearned network may stand above or below an oracle for its
recipe alone, on every scan. So the gap of erased scans to the oracle is taken less the gap of scans of the same kind
that no network ever saw: what is left is memory. Prints a Markdown table and draws how the others' quality and the
memory of every request's scans develop. Stopped, it continues: what the ledger holds is not done again.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import fire
import matplotlib as mpl
import monai.bundle
import torch

from scripts.requests.erasures import erasures
from scripts.requests.ledger import Ledger
from tests.benchmarks.markdown import markdown_table, spread
from tests.benchmarks.stream_data import STREAMS, Stream

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"


def main(
    domain: str = "mixed",
    output_dir: str | None = None,
    seeds: Sequence[int] = (0,),
    oracles: Sequence[int] = tuple(range(1, 11)),
    patients: str = "mirror_image",
    kinds: str = "default",
    unlearning: Mapping | None = None,
) -> None:
    """Run what is missing, print the table and draw ``stream.png``.

    Args:
        domain: ``mixed``, the mixed phantom and some knees, or ``population``, real anatomy of many people.
        output_dir: Where everything goes; default ``outputs/request_stream/<domain>``.
        seeds: Of data, original and unlearning; the oracles have the next one. Each is a stream of its own.
        oracles: Positions of the stream for which an oracle is trained, from 1.
        patients: The method for requests of patients: an overlay, or ``default`` for the method of ``unlearn.yaml``.
        kinds: The method for the other requests.
        unlearning: Overrides of ``unlearn``, e.g. ``"{'retain_fraction': 1.0}"``.
    """
    torch.set_num_threads(1)
    logging.getLogger("ignite").setLevel(logging.WARNING)
    output = Path(output_dir or f"outputs/request_stream/{domain}")
    methods = {"patients": patients, "kinds": kinds}
    folders = {seed: output / f"seed-{seed}" for seed in seeds}
    runs = [
        _run_stream(folder, STREAMS[domain](folder, seed), seed, oracles, methods, unlearning or {})
        for seed, folder in folders.items()
    ]
    text = _table(runs, oracles) + "\n\n" + _memories(runs, oracles)
    (output / "stream.md").write_text(text + "\n", encoding="utf-8")
    print("\n" + text)
    _draw(output / "stream.png", runs, oracles)


@dataclass(frozen=True)
class Run:
    """A stream that was run.

    Attributes:
        requests: Their names.
        psnr: (model, volume) -> dB; the models are ``G``, ``unlearned 1``, ..., ``oracle 1``, ...
        erased: The volumes that each request erased.
        alike: Volume -> volumes of its kind that no model ever saw.
        stay: Volumes that no model ever saw, of the kinds that stay.
    """

    requests: Sequence[str]
    psnr: Mapping[tuple[str, str], float]
    erased: Sequence[Sequence[str]]
    alike: Mapping[str, Sequence[str]]
    stay: Sequence[str]

    def level(self, model: str, names: Sequence[str]) -> float:
        """Mean PSNR."""
        return mean(self.psnr[model, name] for name in names)

    def gap(self, number: int, names: Sequence[str], model: str | None = None) -> float:
        """Mean PSNR of the weights after request ``number``, or of another model, less the oracle's, in dB."""
        return self.level(model or f"unlearned {number}", names) - self.level(f"oracle {number}", names)

    def recipe(self, number: int, names: Sequence[str], model: str | None = None) -> float:
        """The same on scans that no model ever saw, of each scan's kind."""
        return mean(self.gap(number, self.alike[name], model) for name in names)

    def memory(self, number: int, names: Sequence[str], model: str | None = None) -> float:
        """What is known of scans beyond that."""
        return self.gap(number, names, model) - self.recipe(number, names, model)


def _run_stream(
    output: Path, stream: Stream, seed: int, oracles: Sequence[int], methods: Mapping[str, str], unlearning: Mapping
) -> Run:
    asked = [{"request_id": name, "reason": "benchmark", "forget": [what]} for name, what in stream.requests.items()]
    common = {"datalist": stream.datalist, "check_values": False, **stream.settings}
    training = {**common, "ledger": False, **stream.training}
    original = output / "original" / "original.pt"
    _once("train", original, {**training, "forget_request": False, "seed": seed})
    ledger, weights, models = output / "ledger.jsonl", original, {"G": str(original)}
    for number, request in enumerate(asked, start=1):
        product = output / f"unlearned_{number}" / "unlearned.pt"
        if request["request_id"] not in {name for run in erasures(Ledger(ledger)) for name in run.requests.values()}:
            settings = {**common, "weights": str(weights), "forget_request": request, "ledger": str(ledger)}
            settings |= {"seed": seed, "overwrite": True, "evaluate_models": False, "oracle_weights": False}
            method = methods["patients" if "patient_id" in request["forget"][0] else "kinds"]
            overlays = [] if method == "default" else [f"methods/{method}.yaml"]
            _run("unlearn", product, {**settings, **unlearning}, *overlays)
        models[f"unlearned {number}"], weights = str(product), product
    for number in oracles:
        oracle = output / f"oracle_{number}" / "oracle.pt"
        _once("train", oracle, {**training, "forget_request": asked[:number], "oracle": True, "seed": seed + 1})
        models[f"oracle {number}"] = str(oracle)
    return _measured(output, stream, models)


def _once(verb: str, product: Path, settings: Mapping) -> None:
    if not product.with_suffix(".json").is_file():
        _run(verb, product, {**settings, "overwrite": True})


def _run(verb: str, product: Path, settings: Mapping, *overlays: str) -> None:
    files = [str(CONFIGS / name) for name in (f"{verb}.yaml", *overlays)]
    monai.bundle.run(verb, config_file=files, output_dir=str(product.parent), **settings)


def _measured(output: Path, stream: Stream, models: Mapping[str, str]) -> Run:
    """Every model on every scan."""
    settings = {key: value for key, value in stream.settings.items() if key != "train_epochs"}
    settings |= {"datalist": str(output / "everything.json"), "forget_request": False, "ledger": False}
    settings |= {"weights": dict(models), "overwrite": True, "comparison#figure": False, "check_values": False}
    _run("evaluate", output / "evaluation" / "metrics.csv", settings)
    with open(output / "evaluation" / "metrics.csv", newline="", encoding="utf-8") as file:
        psnr = {(row["model"], row["volume"]): float(row["psnr"]) for row in csv.DictReader(file)}
    datalist = json.loads(Path(stream.datalist).read_text(encoding="utf-8"))
    kinds = {entry["kspace"]: stream.kind(entry) for entries in datalist.values() for entry in entries}
    unseen = [entry["kspace"] for entry in datalist["test"]]
    alike = {name: [other for other in unseen if kinds[other] == kinds[name]] for name in kinds}
    erased = [_erased(output / f"unlearned_{n}" / "unlearned.json") for n in range(1, len(stream.requests) + 1)]
    return Run(list(stream.requests), psnr, erased, alike, [name for name in unseen if kinds[name] in stream.stay])


def _erased(record: Path) -> list[str]:
    forgotten = json.loads(record.read_text(encoding="utf-8"))["data"]["forget"]
    return [entry["volume"] for entry in forgotten["volumes"]]


def _table(runs: Sequence[Run], oracles: Sequence[int]) -> str:
    columns = ["request", "scans", "others' PSNR [dB]", "others − oracle's [dB]", "its own scans − oracle's [dB]",
               "unseen scans like them − oracle's [dB]", "memory of its own scans [dB]",
               "memory of all earlier scans [dB]", "memory of its own scans in G [dB]",
               "memory of all scans so far in G [dB]"]  # fmt: skip
    table = [["(original)", "", spread([run.level("G", run.stay) for run in runs], sign=""), *["–"] * 7]]
    for number, name in enumerate(runs[0].requests, start=1):
        own = [(run, run.erased[number - 1]) for run in runs]
        row = [name, "/".join(dict.fromkeys(str(len(names)) for _, names in own))]
        row.append(spread([run.level(f"unlearned {number}", run.stay) for run in runs], sign=""))
        if number not in oracles:
            table.append([*row, *["–"] * 7])
            continue
        earlier = [(run, _joined(run, number - 1)) for run in runs]
        table.append([
            *row,
            spread([run.gap(number, run.stay) for run in runs]),
            spread([run.gap(number, names) for run, names in own]),
            spread([run.recipe(number, names) for run, names in own]),
            spread([run.memory(number, names) for run, names in own]),
            spread([run.memory(number, names) for run, names in earlier]) if number > 1 else "–",
            spread([run.memory(number, names, "G") for run, names in own]),
            spread([run.memory(number, _joined(run, number), "G") for run in runs]),
        ])  # fmt: skip
    return markdown_table(columns, table)


def _memories(runs: Sequence[Run], oracles: Sequence[int]) -> str:
    """What is left of each request's scans after each position, and what G has of them beside the last oracle."""
    last = max(oracles)
    columns = ["memory of [dB]", "in G", *(f"after {number}" for number in oracles)]
    table = [
        [
            name,
            f"{mean(run.memory(last, run.erased[i], 'G') for run in runs):+.2f}",
            *(f"{mean(run.memory(n, run.erased[i]) for run in runs):+.2f}" if n > i else "" for n in oracles),
        ]
        for i, name in enumerate(runs[0].requests[:last])
    ]
    return markdown_table(columns, table)


def _joined(run: Run, number: int) -> list[str]:
    """All scans that the first requests erased."""
    return [name for names in run.erased[:number] for name in names]


def _draw(path: Path, runs: Sequence[Run], oracles: Sequence[int]) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 7), sharex=True, layout="constrained")
    names = runs[0].requests
    steps = range(1, len(names) + 1)

    def quality(models: Sequence[str]) -> list[float]:
        return [mean(run.level(model, run.stay) for run in runs) for model in models]

    above.plot([0, *steps], quality(["G", *(f"unlearned {n}" for n in steps)]), "o-", label="unlearned")
    above.plot(oracles, quality([f"oracle {n}" for n in oracles]), "s--", label="oracle")
    above.set(ylabel="others' test scans, PSNR [dB]")
    above.legend()
    for i, name in enumerate(names):
        values = {n: mean(run.memory(n, run.erased[i]) for run in runs) for n in oracles if n > i}
        below.plot(list(values), list(values.values()), "o-", label=name)
    known = [mean(run.memory(n, _joined(run, n), "G") for run in runs) for n in oracles]
    below.plot(oracles, known, "s--", color="black", label="all erased scans in G")
    below.axhline(0, color="black", linewidth=0.8)
    below.set(xlabel="requests carried out", ylabel="memory of a request's scans [dB]")
    below.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    fire.Fire(main)
