"""Ten requests, one after the other: ``python -m tests.benchmarks.request_stream``

Trains one original on the mixed phantom and some knees, carries out ten requests of growing kind, each on the weights
that the one before has left and with one ledger, those of patients by one method and those of kinds by another, and
trains an oracle for some positions of the stream, which never saw anything erased up to there. An unlearned network may
stand above or below an oracle for its recipe alone, on every scan. So the gap of erased scans to the oracle is taken
less the gap of scans of the same kind that no network ever saw: what is left is memory. Prints a Markdown table and
draws how the others' quality and the memory of every request's scans develop. Stopped, it continues: what the ledger
holds is not done again.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import fire
import matplotlib as mpl
import monai.bundle
import numpy as np
import torch

from scripts.phantoms import mixed_phantom_datalist, phantom_datalist
from scripts.requests.erasures import erasures
from scripts.requests.ledger import Ledger

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
REQUESTS: dict[str, dict] = {
    "1 a patient": {"patient_id": "good-0001"},
    "2 two patients": {"patient_id": ["good-0002", "good-0003"]},
    "3 a patient scanned twice": {"patient_id": "repeated-0001"},
    "4 wrong references": {"quality": "wrong_target"},
    "5 spikes": {"quality": "spikes"},
    "6 moving patients": {"quality": "motion"},
    "7 three patients": {"patient_id": ["good-0004", "good-0005", "good-0006"]},
    "8 a scanner": {"systemModel": "phantom B"},
    "9 a contrast": {"anatomy": "brain", "acquisition": "AXFLAIR"},
    "10 an organ": {"anatomy": "knee"},
}
MIXED = {"good": 24, "repeated": 2, "scanner_b": 4, "motion": 2, "spikes": 2, "wrong_target": 2}
TESTED = {"good": 20, "scanner_b": 8, "motion": 6, "spikes": 6, "wrong_target": 6}
COMMON = {"network#num_cascades": 1, "network#sens_pools": 2, "network#pools": 2, "check_values": False}
Rows = list[dict[str, str]]


def main(
    output_dir: str = "outputs/request_stream",
    matrix: Sequence[int] = (48, 48),
    slices: int = 1,
    train_epochs: int = 30,
    patients: str = "mirror_image",
    kinds: str = "default",
    unlearning: Mapping | None = None,
    seed: int = 0,
    oracles: Sequence[int] = (1, 4, 7, 10),
) -> None:
    """Run what is missing, print the table and draw ``stream.png``.

    Args:
        output_dir: Where weights, evaluation and picture go.
        matrix: k-space (H, W) of the phantoms.
        slices: Slices of a scan.
        train_epochs: Epochs of the original and of each oracle.
        patients: The method for requests of patients: an overlay, or ``default`` for the method of ``unlearn.yaml``.
        kinds: The method for the other requests.
        unlearning: Overrides of ``unlearn``, e.g. ``"{'retain_fraction': 1.0}"``.
        seed: Of phantoms, original and unlearning; the oracles have the next one.
        oracles: Positions of the stream for which an oracle is trained, from 1.
    """
    torch.set_num_threads(1)
    logging.getLogger("ignite").setLevel(logging.WARNING)
    output = Path(output_dir)
    datalist = _datalist(output, matrix, slices, seed)
    asked = [{"request_id": name, "reason": "benchmark", "forget": [what]} for name, what in REQUESTS.items()]
    training = {"datalist": datalist, "train_epochs": train_epochs, "ledger": False}
    original = output / "original" / "original.pt"
    _once("train", original, {**training, "forget_request": False, "seed": seed})
    ledger, weights, models = output / "ledger.jsonl", original, {"G": str(original)}
    for number, request in enumerate(asked, start=1):
        made = output / f"unlearned_{number}" / "unlearned.pt"
        done = {name for run in erasures(Ledger(ledger)) for name in run.requests.values()}
        if request["request_id"] not in done:
            settings = {"weights": str(weights), "forget_request": request, "ledger": str(ledger), "seed": seed}
            settings |= {"train_epochs": train_epochs, "overwrite": True, **(unlearning or {})}
            settings |= {"datalist": datalist, "evaluate_models": False, "oracle_weights": False}
            method = patients if "patient_id" in request["forget"][0] else kinds
            _run("unlearn", made, settings, *([] if method == "default" else [f"methods/{method}.yaml"]))
        models[f"unlearned {number}"], weights = str(made), made
    for number in oracles:
        oracle = output / f"oracle_{number}" / "oracle.pt"
        _once("train", oracle, {**training, "forget_request": asked[:number], "oracle": True, "seed": seed + 1})
        models[f"oracle {number}"] = str(oracle)
    _report(output, _evaluated(output, datalist, models))


def _datalist(output: Path, matrix: Sequence[int], slices: int, seed: int) -> str:
    """The mixed phantom with knees beside its brains; the test list holds scans of people who are never trained on."""
    size = {"slices_per_volume": slices, "matrix": list(matrix), "seed": seed}
    knees = {
        "num_training": {"brain": 1, "knee": 4},
        "num_validation": {"brain": 1},
        "num_test": {"brain": 1, "knee": 8},
    }
    mixed = [
        mixed_phantom_datalist(name, num_training=MIXED, num_test=TESTED, **size) for name in ("scanner_b", "corrupted")
    ]  # which differ in their test lists
    joined: dict[str, list] = {}
    for path, anatomy in [*((path, "brain") for path in mixed), (phantom_datalist(**knees, **size), "knee")]:
        for section, entries in json.loads(Path(path).read_text()).items():
            taken = [{**e, "kspace": str(Path(path).parent / e["kspace"])} for e in entries if e["anatomy"] == anatomy]
            there = [entry["kspace"] for entry in joined.setdefault(section, [])]
            new = [{**entry, "quality": entry.get("quality", "good")} for entry in taken]
            joined[section].extend(entry for entry in new if entry["kspace"] not in there)
    output.mkdir(parents=True, exist_ok=True)
    (output / "datalist.json").write_text(json.dumps(joined, indent=2))
    everything = {"test": [entry for entries in joined.values() for entry in entries]}
    (output / "everything.json").write_text(json.dumps(everything, indent=2))
    return str(output / "datalist.json")


def _once(verb: str, product: Path, settings: Mapping) -> None:
    if not product.with_suffix(".json").is_file():
        _run(verb, product, {**settings, "overwrite": True})


def _run(verb: str, product: Path, settings: Mapping, *overlays: str) -> None:
    files = [str(CONFIGS / name) for name in (f"{verb}.yaml", *overlays)]
    monai.bundle.run(verb, config_file=files, output_dir=str(product.parent), **COMMON, **settings)


def _evaluated(output: Path, datalist: str, models: Mapping[str, str]) -> Rows:
    """Every model on every scan."""
    settings = {"datalist": str(output / "everything.json"), "forget_request": False, "ledger": False}
    _run("evaluate", output / "evaluation" / "metrics.csv", {**settings, "weights": dict(models), "overwrite": True})
    with open(output / "evaluation" / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _report(output: Path, rows: Rows) -> None:
    psnr = {(row["model"], row["volume"]): float(row["psnr"]) for row in rows}
    oracles = sorted(int(model.removeprefix("oracle ")) for model in {m for m, _ in psnr} if model.startswith("oracle"))
    datalist = json.loads((output / "datalist.json").read_text(encoding="utf-8"))
    kinds = {entry["kspace"]: _kind(entry) for entries in datalist.values() for entry in entries}
    unseen = [entry["kspace"] for entry in datalist["test"]]
    erased = [_scans(output, number) for number in range(1, len(REQUESTS) + 1)]
    retain = [name for name in unseen if kinds[name] in (("A", "AXT1"), ("A", "AXT2"))]

    def level(model: str, names: Sequence[str]) -> float:
        return float(np.mean([psnr[model, name] for name in names]))

    def gap(number: int, names: Sequence[str], model: str | None = None) -> float:
        """Mean PSNR of the weights after request ``number``, or of another model, less the oracle's, in dB."""
        return level(model or f"unlearned {number}", names) - level(f"oracle {number}", names)

    def recipe(number: int, names: Sequence[str], model: str | None = None) -> float:
        """The same on scans that no model ever saw, of each scan's kind."""
        alike = [[other for other in unseen if kinds[other] == kinds[name]] for name in names]
        return float(np.mean([gap(number, others, model) for others in alike]))

    def memory(number: int, names: Sequence[str], model: str | None = None) -> float:
        return gap(number, names, model) - recipe(number, names, model)

    columns = ["request", "scans", "others: unlearned / oracle [dB]", "its own scans − oracle's [dB]",
               "unseen scans like them − oracle's [dB]", "memory of its own scans [dB]",
               "memory of earlier requests' scans: mean, highest [dB]", "memory of its scans in G [dB]"]  # fmt: skip
    table = [["(original)", "", f"{level('G', retain):.2f} / –", *[""] * 5]]
    for number, name in enumerate(REQUESTS, start=1):
        own, others = erased[number - 1], f"{level(f'unlearned {number}', retain):.2f}"
        if number not in oracles:
            table.append([name, str(len(own)), f"{others} / –", *["–"] * 5])
            continue
        earlier = [memory(number, names) for names in erased[: number - 1]]
        table.append([
            name, str(len(own)), f"{others} / {level(f'oracle {number}', retain):.2f}", f"{gap(number, own):+.2f}",
            f"{recipe(number, own):+.2f}", f"{memory(number, own):+.2f}",
            f"{np.mean(earlier):+.2f}, {max(earlier):+.2f}" if earlier else "–", f"{memory(number, own, 'G'):+.2f}",
        ])  # fmt: skip
    text = "\n".join("| " + " | ".join(row) + " |" for row in [columns, ["---"] * len(columns), *table])
    (output / "stream.md").write_text(text + "\n", encoding="utf-8")
    print("\n" + text)
    curves = {
        name: {n: memory(n, erased[i]) for n in oracles if n > i} for i, name in enumerate(REQUESTS) if max(oracles) > i
    }
    known = {n: memory(n, [name for names in erased[:n] for name in names], "G") for n in oracles}
    quality = {model: level(model, retain) for model in {model for model, _ in psnr}}
    _draw(output / "stream.png", quality, oracles, curves, known)


def _scans(output: Path, number: int) -> list[str]:
    record = json.loads((output / f"unlearned_{number}" / "unlearned.json").read_text(encoding="utf-8"))
    return [entry["volume"] for entry in record["data"]["forget"]["volumes"]]


def _kind(entry: Mapping) -> tuple[str, ...]:
    """By what scans count as alike; contrast only where there are enough of each."""
    if entry["anatomy"] == "knee":
        return ("knee",)
    if entry["quality"] != "good":
        return (entry["quality"],)
    return ("B",) if entry["scanner"] == "B" else ("A", entry["acquisition"])


def _draw(
    path: Path,
    quality: Mapping[str, float],
    oracles: Sequence[int],
    curves: Mapping[str, Mapping[int, float]],
    known: Mapping[int, float],
) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 7), sharex=True, layout="constrained")
    steps = range(1, len(REQUESTS) + 1)
    above.plot([0, *steps], [quality[m] for m in ("G", *(f"unlearned {n}" for n in steps))], "o-", label="unlearned")
    above.plot(oracles, [quality[f"oracle {n}"] for n in oracles], "s--", label="oracle")
    above.set(ylabel="others' test scans, PSNR [dB]")
    above.legend()
    for name, values in curves.items():
        below.plot(list(values), list(values.values()), "o-", label=name)
    below.plot(list(known), list(known.values()), "s--", color="black", label="all erased scans in G")
    below.axhline(0, color="black", linewidth=0.8)
    below.set(xlabel="requests carried out", ylabel="memory of a request's scans [dB]")
    below.legend(fontsize=7, ncol=2)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    fire.Fire(main)
