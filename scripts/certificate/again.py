"""Verify by doing it again: the audit from the run's record, and the unlearning itself."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.certificate.checks import FAILS, HOLDS, UNCHECKED, Finding, finding
from scripts.run.config import bundle_root, run_verb
from scripts.run.errors import own_error

# settings of the certified audit with which it is done again; the rest is the run's or the project's
SETTINGS = (
    "seed", "statistics", "subgroups", "relearning_steps", "resurfacing_share", "slices_per_measure", "likelihood_rate",
    "full", "precision", "oracle_weights", "oracle_seeds", "treated_oracle_weights", "query_weights",
    "calibration_weights", "reference_weights",
)  # fmt: skip
ABSOLUTE, RELATIVE = 0.05, 0.05  # by which the value of a gate may differ on another machine
STEPS = ["$scripts.run.open_run()", "$@data.log_erased()", "$@audit_run.run()"]  # nothing goes into the ledger
SAME, NOT_COMPARABLE = "same bits", "not comparable"  # what the verb replay says


def rerun(content: Mapping[str, Any], run: str | Path, audit: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Audit a run once more, and compare what its gates read.

    Args:
        content: The predicate.
        run: The folder that ``unlearn`` wrote.
        audit: The certified ``audit.json``, whose settings are used; None: the project's.
    """
    if not Path(_config("audit")).is_file():
        yield UNCHECKED, "rerun: this bundle has no verb audit; one shipped with --profile full has"
        return
    configuration = (audit or {}).get("configuration", {})
    settings = {key: configuration[key] for key in SETTINGS if configuration.get(key) is not None}
    if isinstance(configuration.get("gates"), list):
        settings["gates"] = configuration["gates"]
    with tempfile.TemporaryDirectory() as folder:
        settings |= {"run": str(run), "output_dir": f"{folder}/audit", "certificate": False, "audit": STEPS}
        try:
            run_verb("audit", [_config("audit")], **settings)
        except RuntimeError as error:
            yield FAILS, f"rerun: the audit cannot be done again: {own_error(error)}"
            return
        again = json.loads(Path(folder, "audit", "audit.json").read_text(encoding="utf-8"))
    found = {gate["measure"]: gate for gate in again["gates"]}
    for gate in content["audit"]["gates"]:
        other = found.get(gate["measure"])
        if other is None:
            yield FAILS, f"rerun: {gate['name']}: not measured again"
            continue
        yield finding(
            _close(gate["value"], other["value"]),
            f"rerun: {gate['name']}: {_text(gate['value'])}, again {_text(other['value'])}",
        )


def replay(run: str | Path) -> Iterator[Finding]:
    """Do the unlearning of a run once more, and compare the bits of its weights."""
    if not Path(_config("replay")).is_file():
        yield UNCHECKED, "replay: this bundle has no verb replay; one shipped with --profile full has"
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            run_verb("replay", [_config("replay")], run=str(run), output_dir=folder)
        except RuntimeError as error:
            yield FAILS, f"replay: {own_error(error)}"
            return
        verdict = json.loads(Path(folder, "replay.json").read_text(encoding="utf-8"))["verdict"]
    kinds = {SAME: HOLDS, NOT_COMPARABLE: UNCHECKED}
    yield kinds.get(verdict, FAILS), f"replay: {verdict}"


def _config(verb: str) -> str:
    return f"{bundle_root()}/configs/{verb}.yaml"


def _close(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second
    return abs(first - second) <= max(ABSOLUTE, RELATIVE * abs(first))


def _text(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
