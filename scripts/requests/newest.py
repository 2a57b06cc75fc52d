"""Whether some weights are those with which a ledger ends."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Literal

from scripts.requests.erasures import Erasure, erasures
from scripts.requests.ledger import Ledger
from scripts.requests.which_ledger import remembered
from scripts.run.files import file_sha256

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
    line = remembered(Path(weights))
    if line and ledger.line_hash(line["line"]) != line["line_sha256"]:
        raise ValueError(
            f"{ledger.path}: expected line {line['line']} as {Path(weights).with_suffix('.json')} remembers it, "
            "found another or none: it is another ledger, or lines were cut off"
        )
    runs = erasures(ledger)
    others = [run for run in runs if own != set(run.requests)]
    newest, found = _newest(ledger, others), file_sha256(weights)
    last = others[-1].requests if others and others[-1].weights_out == newest else None
    alike = [run.weights_out for run in others if run.requests == last]  # by several methods
    if newest is None or found in (newest, *alike):
        return
    problem = f"{weights}: expected the weights with which {_end(ledger, newest)}, found {_known(runs, found)}"
    if not older_weights:
        raise ValueError(f"{problem}: what was erased since would come back; --older_weights True where that is meant")
    logger.warning("%s; taken since 'older_weights' is true", problem)


def _newest(ledger: Ledger, runs: list[Erasure]) -> str | None:
    """SHA-256 of the weights with which the ledger ends."""
    ends = {run.number: run.weights_out for run in runs}
    ends |= {line["number"]: line["weights_out"] for line in ledger.lines if line["event"] == "trained"}
    return ends[max(ends)] if ends else None


def _known(runs: list[Erasure], sha256: str) -> str:
    """What weights that are not the newest are to the ledger."""
    known = next((run for run in runs if sha256 in (run.weights_in, run.weights_out)), None)
    return "weights that it does not know" if known is None else f"older ones (line {known.number})"


def _end(ledger: Ledger, weights_out: str) -> str:
    """That the ledger ends with some weights, and in which file a run left them."""
    begun = {line["begun"] for line in ledger.lines if line["event"] == "erased" and line["weights_out"] == weights_out}
    files = [ledger.lines[number - 1]["weights"] for number in sorted(begun)]
    where = f", {os.path.normpath(ledger.path.parent / files[-1])}" if files else ""
    return f"{ledger.path} ends ({weights_out[:12]}…{where})"
