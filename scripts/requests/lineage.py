"""Where some weights stand in the ledger, for methods that change weights: which are the newest, what training they go
back to, and what the requests on the way have cost the retained scans."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ignite.distributed as idist

from scripts.requests.erasures import Erasure, erasures
from scripts.requests.ledger import Ledger
from scripts.run.files import file_sha256, json_object

logger = logging.getLogger(__name__)


def check_newest(path: str | Path | Literal[False] | None, weights: str | Path, older_weights: bool = False) -> None:
    """Refuse weights that know scans which were erased since; None and False: there is no ledger to tell.

    Raises:
        ValueError: See :func:`check_weights`.
    """
    if path:
        check_weights(Ledger(path), weights, set(), older_weights)


def check_weights(ledger: Ledger, weights: str | Path, own: set[str], older_weights: bool) -> None:
    """Refuse weights that know scans which other requests erased.

    Args:
        ledger: What was erased.
        weights: The weights that a run changes.
        own: Keyed hashes of the requests that it carries out; an earlier run of the same ones does not count.
        older_weights: Whether other weights are meant.

    Raises:
        ValueError: Naming the weights, what was found and what was expected.
    """
    found, beside = file_sha256(weights), Path(weights).with_suffix(".json")
    record = json_object(beside)
    line = record.get("ledger") if (record.get("weights_out") or {}).get("sha256") == found else None
    if line and ledger.line_hash(line["line"]) != line["line_sha256"]:
        raise ValueError(
            f"{ledger.path}: expected line {line['line']} as {beside} remembers it, found another or none: it is "
            "another ledger, or lines were cut off"
        )
    runs = {run.number: run for run in erasures(ledger)}
    others = {number: run for number, run in runs.items() if own != set(run.requests)}
    trained = {line["number"]: line["weights_out"] for line in ledger.lines if line["event"] == "trained"}
    if not others and not trained:
        return
    last = max([*others, *trained])
    if last in others:  # several methods may have carried out the same requests
        end = f", {os.path.normpath(ledger.path.parent / ledger.lines[last - 1]['weights'])}"
        newest = [run.weights_out for run in others.values() if run.requests == others[last].requests]
    else:
        newest, end = [trained[last]], ""
    if found in newest:
        return
    known = any(found in (run.weights_in, run.weights_out) for run in runs.values())
    problem = (
        f"{weights}: expected the weights with which {ledger.path} ends ({newest[-1][:12]}…{end}), found "
        f"{'older ones' if known else 'weights that it does not know'}"
    )
    if not older_weights:
        raise ValueError(f"{problem}: what was erased since would come back; --older_weights True where that is meant")
    logger.warning("%s; taken since 'older_weights' is true", problem)


def training_record(ledger: Ledger | None, weights: str | Path) -> dict | None:
    """Path (from the ledger's folder) and SHA-256 of the record of the training that some weights go back to.

    Args:
        ledger: Leads from weights that were unlearned back to those that were trained.
        weights: The file.
    """
    found = file_sha256(weights)
    lines = ledger.lines if ledger else []
    for line in reversed(lines):
        if line["event"] == "trained" and line["weights_out"] == found:
            return {"path": line["record"], "sha256": line["record_sha256"]}
        if line["event"] == "erased" and line["weights_out"] == found:
            return lines[line["begun"] - 1]["trained_by"]
    record = Path(weights).with_suffix(".json")
    if json_object(record).get("verb") != "train":
        return None
    folder = (ledger.path if ledger else record).resolve().parent
    return {"path": os.path.relpath(record.resolve(), folder), "sha256": file_sha256(record)}


def trained_by(path: str | Path | None, weights: str | Path) -> str | None:
    """File of :func:`training_record`; None without a ledger, or where it does not lead back to a training.

    Raises:
        ValueError: A record that is missing or is not what it was.
    """
    found = training_record(Ledger(path), weights) if path and Path(weights).is_file() else None
    if path is None or found is None:
        return None
    record = Path(os.path.normpath(Path(path).resolve().parent / found["path"]))
    if not record.is_file() or file_sha256(record) != found["sha256"]:
        raise ValueError(f"{record}: expected the training's record as {path} remembers it, found another or none")
    return str(record)


def compared(path: str | Path | None, weights: str | Path | Literal[False] | None) -> dict[str, str]:
    """What a result is compared with: the first ``original``, and weights ``before`` this request that are others.

    Args:
        path: The ledger; None or False: the weights are the original.
        weights: The weights that a run replaces or changes; None or False: there are none.
    """
    if not weights or not path or not Path(weights).is_file():
        return {"original": str(weights)} if weights else {}
    ledger, found = Ledger(path), file_sha256(weights)
    if not any(run.weights_out == found for run in erasures(ledger)):
        return {"original": str(weights)}
    training = training_record(ledger, weights)
    record = Path(path).resolve().parent / (training["path"] if training else "")
    first, stated = record.with_suffix(".pt"), json_object(record).get("weights_out") or {}
    known = first.is_file() and file_sha256(first) == stated.get("sha256")
    return ({"original": os.path.normpath(first)} if known else {}) | {"before": str(weights)}


@dataclass(frozen=True)
class Step:
    """One run that erased."""

    line: int  # of the ledger, on which it began
    request: str  # the identifiers of its requests
    change: float | None  # mean PSNR on its own retain test scans, after less before, in dB; None: not known
    why: str = ""  # it is not known


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


def _step(ledger: Ledger, run: Erasure) -> Step:
    record = Path(os.path.normpath(ledger.path.parent / ledger.lines[run.number - 1]["record"]))
    stated = [line["record_sha256"] for line in ledger.lines if line.get("begun") == run.number]
    if not record.is_file():
        return Step(run.number, run.name, None, "its record is not there")
    if stated and file_sha256(record) not in stated:
        return Step(run.number, run.name, None, "its record was changed")
    results = json.loads(record.read_text(encoding="utf-8")).get("results") or {}
    try:
        before = next(name for name in ("before", "original", "G") if name in results)  # G: in older records
        change = float(results["unlearned"]["BTA"]["psnr"]["mean"]) - float(results[before]["BTA"]["psnr"]["mean"])
    except (KeyError, StopIteration):
        return Step(run.number, run.name, None, "no evaluation in its record")
    return Step(run.number, run.name, change)


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
