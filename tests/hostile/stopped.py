"""Each verb as the tests of interruptions run it: a command, what it leaves, and when it is stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom

from scripts.run.files import file_sha256
from tests.hostile.warm import Run, Warm
from tests.verbs import CONFIGS, SMALL

LEFT = (".partial-*", "*.lock", ".*.lock", "*.checkpoint", "error.txt")
SHORT = {"train_epochs": 2, "check_values": False, "enter_in_ledger": False}
NETWORK = {key.replace("network", "network_def"): value for key, value in SMALL.items() if key.startswith("network")}


@dataclass(frozen=True)
class Stopped:
    """How a verb is run, stopped and run again.

    Attributes:
        settings: The overrides, given the folder of the inputs.
        results: What has to have the same content as without a stop.
        shares: The steps on the disk at which the run, started again after each stop, is stopped, as shares of those of
            an undisturbed one.
        again: Overrides of the runs that follow the first.
        config: Config files, by default the verb's own.
        run_id: By default the verb.
        folder: The setting that names the output folder; empty: the verb has none.
    """

    settings: Callable[[Path], dict[str, Any]]
    results: tuple[str, ...]
    shares: tuple[float, float, float] = (0.8, 0.5, 0.3)
    again: dict[str, Any] = field(default_factory=dict)
    config: tuple[str, ...] = ()
    run_id: str = ""
    folder: str = "output_dir"


def command(verb: str, inputs: Path, output: Path, **more: Any) -> list[str]:
    """The words behind ``python -m monai.bundle``."""
    how = VERBS[verb]
    files = [str(CONFIGS / name) for name in how.config or (f"{verb}.yaml",)]
    settings = {**how.settings(inputs), **({how.folder: output} if how.folder else {}), **more}
    return ["run", how.run_id or verb, "--config_file", str(files), *(f"--{k}={v}" for k, v in settings.items())]


def _shared(inputs: Path) -> dict[str, Any]:
    return {"datalist": inputs / "datalist.json", "ledger": "false", **SMALL}


def _trained(inputs: Path) -> dict[str, Any]:
    return {**_shared(inputs), "weights": inputs / "original.pt"}


OVERWRITE = {"overwrite": "true"}
VERBS = {
    "train": Stopped(
        lambda inputs: {**_shared(inputs), **SHORT, "resume": "true"},
        ("original.pt",),
    ),
    "unlearn": Stopped(
        lambda inputs: {**_trained(inputs), "budget": "None", "unlearn_epochs": 2, "resume": "true",
                        "enter_in_ledger": "false", "check_values": "false"},
        ("unlearned.pt", "metrics.csv", "metrics.json", "table.md", "panels.png"),
        config=("unlearn.yaml", "approximate.yaml", "methods/fine_tune.yaml"),
    ),
    "evaluate": Stopped(
        lambda inputs: _trained(inputs),
        ("metrics.csv", "metrics.json", "table.md", "panels.png"),
        again=OVERWRITE,
    ),
    "audit": Stopped(
        lambda inputs: {**_trained(inputs), "unlearned_weights": inputs / "unlearned" / "unlearned.pt",
                        "relearning_steps": 2, "slices_per_measure": 40, "oracle_weights": inputs / "oracle.pt",
                        "statistics#samples": 100},
        ("metrics.csv", "audit.md", "*.png"),
        again=OVERWRITE,
    ),
    "declare": Stopped(
        lambda inputs: {**_trained(inputs), "unlearned_weights": "out/unlearned.pt"},
        ("declaration.json",),
        config=("audit.yaml", "declare.yaml"), folder="",
    ),
    "protocol": Stopped(
        lambda inputs: {**_shared(inputs), "train_epochs": 1, "unlearn_epochs": 1, "methods": "[fine_tune]",
                        "fraction_methods": "[]", "seeds": "[0]", "oracle_seeds": "[0]",
                        "check_values": "false", "n_jobs": 1},
        ("cells/*/**/*.pt", "cells/**/metrics.csv"),
        shares=(0.7, 0.3, 0.2),  # the cells that are finished stay so
    ),
    "simulate": Stopped(
        lambda inputs: {"images": [{"image": str(inputs / "image.nii"), "anatomy": "brain"}], "num_coils": 4},
        ("**/*.h5", "datalist.json"),
    ),
    "preview": Stopped(  # it makes the phantoms where nobody has
        lambda inputs: {"datalist": "$scripts.phantoms.phantom_datalist('out', matrix=(64, 64), slices_per_volume=2, "
                                    "num_training={'brain': 2, 'knee': 1}, num_validation={}, num_test={'brain': 1})"},
        ("**/*.h5", "**/*.json"),
        folder="",
    ),
    "ship": Stopped(
        lambda inputs: {"weights": inputs / "original.pt", "data_source": "phantoms of a test",
                        "data_license": inputs / "licence.txt", "audit_dir": "None", "ledger": "false"},
        ("*.zip", "*/models/*", "*/manifest.json"),
        shares=(0.9, 0.02, 0.01),  # after and before the exports, which take the time
    ),
    "inference": Stopped(
        lambda inputs: {"dataset_dir": inputs / "raw", "weights": inputs / "original.pt", "formats": "[nifti,dicom]",
                        **NETWORK},
        ("*.nii.gz", "*_dicom/*.dcm"),
        again=OVERWRITE, config=("inference.json",), run_id="run",
    ),
}  # fmt: skip


def start(warm: Warm, verb: str, inputs: Path, output: Path, **more: Any) -> Run:
    """Run a verb; what it says stands beside its output folder. ``most_bytes`` and ``stop``: see :meth:`Warm.start`."""
    output.parent.mkdir(exist_ok=True)
    how = {name: more.pop(name) for name in ("most_bytes", "stop") if name in more}
    words = command(verb, inputs, output, **more)
    return warm.start("monai.bundle", *words, cwd=output.parent, output=output.parent / "said.txt", **how)


def results(verb: str, output: Path) -> dict[str, str]:
    """What has to be equal, by file: SHA-256 of it, without the times that declarations and images hold."""
    found = {path for pattern in VERBS[verb].results for path in output.glob(pattern) if path.is_file()}
    return {path.relative_to(output).as_posix(): _identity(path) for path in sorted(found)}


def _identity(path: Path) -> str:
    if path.name == "declaration.json":
        return str(json.loads(path.read_text(encoding="utf-8"))["sha256"])
    if path.suffix == ".dcm":
        image = pydicom.dcmread(path)
        return f"{image.SOPInstanceUID} {hashlib.sha256(image.PixelData).hexdigest()}"
    return file_sha256(path)


def listing(output: Path) -> set[str]:
    """Every file, but for TensorBoard's, whose names hold the time."""
    files = [path for path in output.parent.rglob("*") if path.is_file() and "tensorboard" not in path.parts]
    return {path.relative_to(output.parent).as_posix() for path in files} - {"said.txt", "said.steps"}
