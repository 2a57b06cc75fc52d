"""The data of :mod:`tests.benchmarks.request_stream`: a datalist, ten requests, and which scans are alike."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from scripts.phantoms import Simulation, mixed_phantom_datalist, phantom_datalist
from tests.benchmarks.frontier import domain_settings
from tests.benchmarks.population import population_images

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Stream:
    """What a stream of requests is run on.

    Attributes:
        datalist: Its path. Nobody in its test list is trained on.
        requests: Name -> selector, in their order.
        settings: Of every verb: network, mask, epochs.
        training: Settings of ``train`` alone.
        kind: What scans count as alike, of an entry of the datalist.
        stay: The kinds that stay to the end.
    """

    datalist: str
    requests: Mapping[str, Mapping]
    settings: Mapping[str, Any]
    training: Mapping[str, Any]
    kind: Callable[[Entry], tuple[str, ...]]
    stay: tuple[tuple[str, ...], ...]


MIXED_REQUESTS: dict[str, dict] = {
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


def mixed(output: Path, seed: int) -> Stream:
    """The mixed phantom with knees beside its brains, 48 x 48, scans of one slice."""
    size: dict[str, Any] = {"slices_per_volume": 1, "matrix": [48, 48], "seed": seed}
    training = {"good": 24, "repeated": 2, "scanner_b": 4, "motion": 2, "spikes": 2, "wrong_target": 2}
    tested = {"good": 20, "scanner_b": 8, "motion": 6, "spikes": 6, "wrong_target": 6}
    brains = [
        mixed_phantom_datalist(name, num_training=training, num_test=tested, **size)
        for name in ("scanner_b", "corrupted")
    ]  # which differ in their test lists
    knees = phantom_datalist(
        num_training={"brain": 1, "knee": 4},
        num_validation={"brain": 1},
        num_test={"brain": 1, "knee": 8},
        **size,
    )
    joined: dict[str, list] = {}
    for path, anatomy in [*((path, "brain") for path in brains), (knees, "knee")]:
        for section, entries in _absolute(path).items():
            there = [entry["kspace"] for entry in joined.setdefault(section, [])]
            new = [{**e, "quality": e.get("quality", "good")} for e in entries if e["anatomy"] == anatomy]
            joined[section].extend(entry for entry in new if entry["kspace"] not in there)
    network = {"network#num_cascades": 1, "network#sens_pools": 2, "network#pools": 2, "train_epochs": 30}
    return Stream(_written(output, joined), MIXED_REQUESTS, network, {}, _mixed_kind, (("A", "AXT1"), ("A", "AXT2")))


def _mixed_kind(entry: Entry) -> tuple[str, ...]:
    """By what scans count as alike; contrast only where there are enough of each."""
    if entry["anatomy"] == "knee":
        return ("knee",)
    if entry["quality"] != "good":
        return (entry["quality"],)
    return ("B",) if entry["scanner"] == "B" else ("A", entry["acquisition"])


INVERTED = "AXFLAIR inverted"
GROUPS = (1, 2, 3, 4, 2, 5, 1)  # patients of the requests of patients


def population(output: Path, seed: int) -> Stream:
    """Real anatomy of many people: FLAIR brains and knees, a second scanner and a second contrast made of some brains.

    Scanner B has another number of coils and more noise; the contrast is the FLAIR image turned from dark to bright
    inside the brain. Patients are chosen, and coils and noise drawn, by the seed.
    """
    images = population_images()
    rng = np.random.default_rng(seed)
    brains = {
        split: [i for i in images if i["anatomy"] == "brain" and i["split"] == split] for split in ("training", "test")
    }
    drawn = {split: [entries[i] for i in rng.permutation(len(entries))] for split, entries in brains.items()}
    other = {"B": drawn["training"][:8] + drawn["test"][:8], INVERTED: drawn["training"][8:18] + drawn["test"][8:16]}
    moved = {entry["image"] for entries in other.values() for entry in entries}
    made = {
        "A": ([i for i in images if i["image"] not in moved], {"num_coils": 4, "snr": 40.0}),
        "B": (other["B"], {"num_coils": 6, "snr": 10.0}),
        INVERTED: (_inverted(other[INVERTED], output / "inverted"), {"num_coils": 4, "snr": 40.0}),
    }
    joined: dict[str, list] = {}
    for number, (name, (entries, acquisition)) in enumerate(made.items()):
        folder = output / f"data-{number}"
        if not (folder / "datalist.json").is_file():
            Simulation(entries, folder, matrix=(96, 80), slices_per_volume=1, seed=seed + number, **acquisition).write()
        for section, found in _absolute(str(folder / "datalist.json")).items():
            joined.setdefault(section, []).extend({**e, "scanner": "B" if name == "B" else "A"} for e in found)
    free = iter(entry["patient_id"] for entry in drawn["training"][18:])
    people = [[next(free) for _ in range(count)] for count in GROUPS]
    asked = [{"patient_id": whom} for whom in people]
    asked[5:5] = [{"scanner": "B"}]
    asked += [{"acquisition": INVERTED}, {"anatomy": "knee"}]
    names = ["1 a patient", "2 two patients", "3 three patients", "4 four patients", "5 two patients", "6 a scanner",
             "7 five patients", "8 a patient", "9 a contrast", "10 an organ"]  # fmt: skip
    domain = domain_settings("population")
    settings = {key: domain["unlearn"][key] for key in ("network", "mask", "train_epochs")}
    training = {key: value for key, value in domain["train"].items() if key not in domain["unlearn"]}
    requests = dict(zip(names, asked, strict=True))
    return Stream(_written(output, joined), requests, settings, training, _population_kind, (("A", "AXFLAIR"),))


def _population_kind(entry: Entry) -> tuple[str, ...]:
    return ("knee",) if entry["anatomy"] == "knee" else (entry["scanner"], entry["acquisition"])


def _inverted(entries: list[dict], folder: Path) -> list[dict]:
    """The images turned from dark to bright where there is a brain, as NIfTI in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for entry in entries:
        image = nib.load(entry["image"])
        values = np.asarray(image.dataobj, dtype=np.float32)
        path = folder / os.path.basename(entry["image"])
        turned = np.where(values > 0.05 * values.max(), 1.1 * values.max() - values, 0).astype(np.float32)
        nib.save(nib.Nifti1Image(turned, image.affine), path)
        made.append({**entry, "image": str(path), "acquisition": INVERTED})
    return made


def _absolute(path: str) -> dict[str, list[dict]]:
    folder = Path(path).resolve().parent
    sections = json.loads(Path(path).read_text(encoding="utf-8"))
    return {name: [{**e, "kspace": str(folder / e["kspace"])} for e in entries] for name, entries in sections.items()}


def _written(output: Path, sections: Mapping[str, list]) -> str:
    output.mkdir(parents=True, exist_ok=True)
    (output / "datalist.json").write_text(json.dumps(sections, indent=2))
    everything = {"test": [entry for entries in sections.values() for entry in entries]}
    (output / "everything.json").write_text(json.dumps(everything, indent=2))
    return str(output / "datalist.json")


STREAMS: dict[str, Callable[[Path, int], Stream]] = {"mixed": mixed, "population": population}
