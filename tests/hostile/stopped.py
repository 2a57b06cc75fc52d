"""Each verb as the tests of interruptions run it: a command, what it leaves, and when it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.files import file_sha256
from tests.hostile.warm import Run, Warm
from tests.verbs import CONFIGS, SMALL

LEFT = (".partial-*", "*.lock", ".*.lock", "*.checkpoint", "error.txt")
SHORT = {"train_epochs": 2, "check_values": False, "enter_in_ledger": False}


@dataclass(frozen=True)
class Stopped:
    """How a verb is run, stopped and run again.

    Attributes:
        settings: The overrides, given the folder of the inputs.
        moments: Files below the output folder, or beside it where they begin with "../"; when one appears, or the text
            after ":" stands in it, the run is stopped.
        results: What has to have the same bits as without a stop.
        again: Overrides of the run that follows.
        config: Config files, by default the verb's own.
    """

    settings: Callable[[Path], dict[str, Any]]
    moments: tuple[str, ...]
    results: tuple[str, ...]
    again: dict[str, Any] = field(default_factory=dict)
    config: tuple[str, ...] = ()


def command(verb: str, inputs: Path, output: Path, **more: Any) -> list[str]:
    """The words behind ``python -m monai.bundle``."""
    how = VERBS[verb]
    files = [str(CONFIGS / name) for name in how.config or (f"{verb}.yaml",)]
    settings = {**how.settings(inputs), **({} if verb == "preview" else {"output_dir": output}), **more}
    names = [f"--{key}={value}" for key, value in settings.items() if value != ""]
    return ["run", verb, "--config_file", str(files), *names]


def _shared(inputs: Path) -> dict[str, Any]:
    return {"datalist": inputs / "datalist.json", "ledger": "false", **SMALL}


def _trained(inputs: Path) -> dict[str, Any]:
    return {**_shared(inputs), "weights": inputs / "original.pt"}


OVERWRITE = {"overwrite": "true"}
VERBS = {
    "train": Stopped(
        lambda inputs: {**_shared(inputs), **SHORT, "resume": "true"},
        ("original.log", "original.checkpoint", "original.pt"),
        ("original.pt",),
    ),
    "unlearn": Stopped(
        lambda inputs: {**_trained(inputs), "budget": "None", "unlearn_epochs": 2, "resume": "true",
                        "enter_in_ledger": "false", "check_values": "false"},
        ("unlearned.checkpoint", "unlearned.pt", "metrics.csv"),
        ("unlearned.pt", "metrics.csv", "metrics.json", "table.md", "panels.png"),
        config=("unlearn.yaml", "methods/fine_tune.yaml"),
    ),
    "evaluate": Stopped(
        lambda inputs: _trained(inputs),
        ("evaluate.log", "metrics.csv", "table.md"),
        ("metrics.csv", "metrics.json", "table.md", "panels.png"),
        again=OVERWRITE,
    ),
    "protocol": Stopped(
        lambda inputs: {**_shared(inputs), "train_epochs": 1, "unlearn_epochs": 1, "methods": "[fine_tune]",
                        "fraction_methods": "[]", "seeds": "[0]", "oracle_seeds": "[0]", "dynamics": "false",
                        "check_values": "false"},
        ("cells/original/seed-0/cell.json",),
        ("cells/*/**/*.pt", "cells/**/metrics.csv"),
    ),
    "simulate": Stopped(
        lambda inputs: {"images": [{"image": str(inputs / "image.nii"), "anatomy": "brain"}], "num_coils": 4},
        ("../.partial-*", "../.partial-*/training/*.h5", "../.partial-*/test/*.h5"),
        ("**/*.h5", "datalist.json"),
    ),
    "preview": Stopped(  # it makes the phantoms where nobody has
        lambda inputs: {"datalist": "$scripts.phantoms.phantom_datalist('out', matrix=(64, 64), slices_per_volume=2, "
                                    "num_training={'brain': 2, 'knee': 1}, num_validation={}, num_test={'brain': 1})"},
        (".partial-*", ".partial-*/*.h5"),
        ("**/*.h5", "**/*.json"),
    ),
    "ship": Stopped(
        lambda inputs: {"run_dir": "None", "weights": inputs / "original.pt", "data_source": "phantoms of a test",
                        "data_license": inputs / "licence.txt", "audit_dir": "None", "ledger": "false"},
        (".partial-*", ".partial-*/*/models/model.pt", ".partial-*/*/models/model.ts"),
        ("*.zip", "*/models/*", "*/manifest.json"),
    ),
}  # fmt: skip


def start(warm: Warm, verb: str, inputs: Path, output: Path, most_bytes: int | None = None, **more: object) -> Run:
    """Run a verb; what it says stands beside its output folder."""
    output.parent.mkdir(exist_ok=True)
    words, said = command(verb, inputs, output, **more), output.parent / "said.txt"
    return warm.start("monai.bundle", *words, cwd=output.parent, output=said, most_bytes=most_bytes)


def results(verb: str, output: Path) -> dict[str, str]:
    """SHA-256 of what has to be equal."""
    found = {path for pattern in VERBS[verb].results for path in output.glob(pattern) if path.is_file()}
    return {path.relative_to(output).as_posix(): file_sha256(path) for path in sorted(found)}


def listing(output: Path) -> set[str]:
    """Every file, but for TensorBoard's, whose names hold the time."""
    files = [path for path in output.parent.rglob("*") if path.is_file() and "tensorboard" not in path.parts]
    return {
        path.relative_to(output.parent).as_posix() for path in files if path.suffix != ".lock" and path.name != ".lock"
    } - {"said.txt"}
