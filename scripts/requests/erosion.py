"""What the requests carried out so far have cost those who stay, from the figures of the runs' records."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import ignite.distributed as idist

from scripts.requests.erasures import Erasure, erasures
from scripts.requests.ledger import Ledger
from scripts.run.files import file_sha256

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One run that erased.

    Attributes:
        line: The ledger's line on which it began.
        request: The identifiers of its requests.
        change: Mean PSNR on the run's own retain test scans, after less before, in dB; None: not known.
        why: Why it is not known, or "".
    """

    line: int
    request: str
    change: float | None
    why: str = ""


def erosion(ledger: Ledger, weights: str | Path) -> list[Step]:
    """The runs that lead from the last training to some weights, in their order, and what each cost those who stay.

    A run that was carried out once more counts once. A training anew, entered in the ledger, begins from nothing. Each
    change is that on the run's own retain test scans, since a request may take scans out of them.

    Args:
        ledger: The ledger.
        weights: The file; empty list where no run of the ledger made it.
    """
    by_output = {run.weights_out: run for run in erasures(ledger)}
    trained = {line["weights_out"] for line in ledger.lines if line["event"] == "trained"}
    steps = list[Step]()
    current: str | None = file_sha256(weights)
    while current in by_output and current not in trained:
        run = by_output.pop(current)
        steps.insert(0, _step(ledger, run))
        current = run.weights_in
    return steps


def total(steps: list[Step]) -> float | None:
    """The sum of their changes in dB, None where one of them is not known.

    >>> total([Step(2, "march", -0.25), Step(4, "june", -0.5)])
    -0.75
    """
    changes = [step.change for step in steps if step.change is not None]
    return sum(changes) if len(changes) == len(steps) else None


def advice(ledger: str | Path, lost: float, limit: float) -> str:
    """What to do where those who stay have lost more than is allowed."""
    return (
        f"Those who stay have lost {lost:.2f} dB since the original was trained, more than the declared {limit:g} dB, "
        "and no further unlearning gives it back. Train anew without everything erased so far: "
        "python -m monai.bundle run train --config_file bundle/configs/train.yaml "
        f"--ledger {ledger} --datalist DATALIST"
    )


@idist.one_rank_only()
def warn_of_erosion(path: str | Path | None, weights: str | Path, limit: float | None) -> None:
    """Say in the log what the requests so far have cost those who stay, and what to do where it is too much.

    Args:
        path: The ledger; None or False: nothing is said.
        weights: The weights with which it ends.
        limit: How much may be lost, in dB; None: as much as there is.
    """
    if not path:
        return
    steps = erosion(Ledger(path), weights)
    lost = total(steps)
    if lost is None:
        unknown = ", ".join(f"{step.request} ({step.why})" for step in steps if step.change is None)
        logger.info("what the requests so far have cost those who stay is not known: %s", unknown)
        return
    logger.info("those who stay, since the original was trained: %+.2f dB in %d requests", lost, len(steps))
    if limit is not None and -lost > limit:
        logger.warning("%s", advice(path, -lost, limit))


def _step(ledger: Ledger, run: Erasure) -> Step:
    record = Path(os.path.normpath(ledger.path.parent / ledger.lines[run.number - 1]["record"]))
    stated = [line["record_sha256"] for line in ledger.lines if line.get("begun") == run.number]
    if not record.is_file():
        return Step(run.number, run.name, None, "its record is not there")
    if stated and file_sha256(record) not in stated:
        return Step(run.number, run.name, None, "its record was changed")
    results = json.loads(record.read_text(encoding="utf-8")).get("results") or {}
    try:
        after, before = (float(results[model]["BTA"]["psnr"]["mean"]) for model in ("unlearned", "G"))
    except KeyError:
        return Step(run.number, run.name, None, "no evaluation in its record")
    return Step(run.number, run.name, after - before)
