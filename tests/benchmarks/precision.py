"""Does the precision change the verdict? ``python -m tests.benchmarks.precision``

Trains an original and an oracle in single precision, then unlearns with the default method, evaluates and audits at
each precision, beside the oracle treated alike, every verb in a process of its own. Prints time, memory, PSNR and its
change from single precision, and the audit's verdict with the gates that failed; below, the same of the network of
single precision whose weights are rounded to int8, which the audit alone does. Stopped, the command goes on where it
stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import fire
import torch

from tests.benchmarks.frontier import CONFIGS, domain_settings

COHORTS = ("BTA", "KTA", "UA")
AUDITED, QUANTISED = "unlearned", "unlearned, int8"


def main(domain: str = "validity", output_dir: str | None = None, device: str | None = None, **audit: object) -> None:
    """Run what is missing and print the table.

    Args:
        domain: An overlay in ``domains``.
        output_dir: The folder of all runs; default ``outputs/precision/<domain>``.
        device: cpu or cuda; None: a GPU if there is one. fp16 is measured on a GPU alone.
        audit: Overrides of the audits, e.g. ``--slices_per_measure 800``.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    output = Path(output_dir or f"outputs/precision/{domain}").absolute()
    settings = domain_settings(domain)
    for name in ("original", "oracle"):
        training = {**settings["train"], "oracle": name == "oracle", "device": device}
        _run("train", output / name, f"{name}.pt", training)
    weights = {"weights": output / "original" / "original.pt", "oracle_weights": output / "oracle" / "oracle.pt"}
    rows, reference = [], None
    for precision in ("fp32", "bf16", *(["fp16"] if device.startswith("cuda") else [])):
        common = {**settings["unlearn"], **weights, "precision": precision, "device": device}
        folder = output / precision
        _run("unlearn", folder, "unlearned.pt", common)
        alike = {"weights": weights["oracle_weights"], "like": folder / "unlearned.json"}
        treated = folder / "treated_oracle"
        _run(
            "unlearn",
            treated,
            "unlearned.pt",
            {**common, **alike},
            "methods/reset_and_heal.yaml",
            "treated_oracle.yaml",
        )
        del common["train_epochs"]
        models = {"unlearned_weights": folder / "unlearned.pt", "treated_oracle_weights": treated / "unlearned.pt"}
        _run("audit", folder / "audit", "audit.json", {**common, **models, "certificate": False, **audit})
        record, result = (json.loads((folder / name).read_text()) for name in ("unlearned.json", "audit/audit.json"))
        reference = reference or result
        rows.append(_row(precision, result, reference, AUDITED, record))
        if precision == "fp32":
            rows.append(_row("int8 weights, in the audit", result, reference, QUANTISED))
    columns = ["precision", "unlearning [s]", "memory [MB]", *(f"{c} [dB]" for c in COHORTS), "verdict", "failed gates"]
    for line in [columns, ["---"] * len(columns), *rows]:
        print("| " + " | ".join(line) + " |")


def _row(name: str, result: Mapping, reference: Mapping, model: str, record: Mapping | None = None) -> list[str]:
    """A line of the table; of the network in int8 the verdict is that of the gates about it."""
    means, before = ({c: found["models"][m][c]["psnr"]["mean"] for c in COHORTS}
                     for found, m in ((result, model), (reference, AUDITED)))  # fmt: skip
    shown = [f"{means[c]:.2f} ({means[c] - before[c]:+.2f})" for c in COHORTS]
    gates = [gate for gate in result["gates"] if model == AUDITED or gate["name"].endswith("to int8")]
    failed = [gate["name"] for gate in gates if gate["verdict"] == "fail"]
    verdict = result["verdict"]["verdict"] if model == AUDITED else "known" if failed else "not known"
    cost = [f"{record['cost']['seconds']:.0f}", str(record["peak_memory_mb"])] if record else ["–", "–"]
    return [name, *cost, *shown, verdict, "; ".join(failed) or "none"]


def _run(verb: str, folder: Path, result: str, settings: Mapping[str, object], *overlays: str) -> None:
    """One verb as the command line runs it, unless its result is there."""
    if (folder / result).is_file():
        return
    given = {"output_dir": folder, "overwrite": True, "ledger": False, "check_values": False, **settings}
    given |= {} if verb == "audit" else {"enter_in_ledger": False}
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", verb]
    command += ["--config_file", str([str(CONFIGS / name) for name in (f"{verb}.yaml", *overlays)]), *_arguments(given)]
    subprocess.run(command, check=True, env={"OMP_NUM_THREADS": "1", **os.environ})


def _arguments(settings: Mapping[str, object]) -> Sequence[str]:
    """Overrides as the command line takes them.

    >>> _arguments({"seed": 0, "oracle": False, "network": {"chans": 8}})
    ['--seed', '0', '--oracle', 'False', '--network', "{'chans': 8}"]
    """
    return [text for key, value in settings.items() for text in (f"--{key}", str(value))]


if __name__ == "__main__":
    fire.Fire(main)
