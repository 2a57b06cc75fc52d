"""Whether some weights are those with which a ledger ends."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from scripts.requests.erasures import Erasure, erasures
from scripts.requests.ledger import Ledger
from scripts.requests.which_ledger import VARIABLE, remembered
from scripts.run.files import file_sha256

logger = logging.getLogger(__name__)
UNKNOWN = (
    "%s: no ledger says what was erased from these weights before. If they are a copy of weights that have one, name "
    f"it: --ledger FILE or {VARIABLE}"
)


def check_newest(path: str | Path | None, weights: str | Path, older_weights: bool = False) -> None:
    """Refuse weights other than those with which a ledger ends: they know what was erased since.

    Args:
        path: The ledger; None: the log says that none knows the weights; False: nothing is checked.
        weights: The file.
        older_weights: Whether other weights are meant.

    Raises:
        ValueError: Naming the weights, what was found and what was expected.
    """
    if path:
        check_weights(Ledger(path), weights, set(), older_weights)
    elif path is None:
        logger.warning(UNKNOWN, weights)


def check_weights(ledger: Ledger, weights: str | Path, own: set[str], older_weights: bool) -> None:
    """The same for weights on which requests are to be carried out; ``own``: the keyed hashes of these requests."""
    line = remembered(Path(weights))
    if line and ledger.line_hash(line["line"]) != line["line_sha256"]:
        raise ValueError(
            f"{ledger.path}: expected line {line['line']} as {Path(weights).with_suffix('.json')} remembers it, "
            "found another or none: it is another ledger, or lines were cut off"
        )
    runs = erasures(ledger)
    newest = _newest(ledger, runs)
    found = file_sha256(weights)
    last = runs[-1] if runs else None
    again = last is not None and own == set(last.requests)
    if newest is None or (found == newest and not again):
        return
    if last is not None and again:
        if found == last.weights_out:
            raise ValueError(
                f"{weights}: expected the weights before request {last.name}, found those that it made (line "
                f"{last.number} of {ledger.path}); it was carried out"
            )
        if found == last.weights_in:
            logger.info("request %s is carried out once more, from the weights before it", last.name)
            return
    problem = f"{weights}: expected the weights with which {_end(ledger, newest)}, found {_known(runs, found)}"
    if not older_weights:
        raise ValueError(f"{problem}: what was erased since would come back; --older_weights True where that is meant")
    logger.warning("%s; taken since 'older_weights' is true", problem)


def standing(path: str | Path | None, weights: str | Path) -> str:
    """What a ledger says of some weights, in one sentence.

    Args:
        path: The ledger; None or False: there is none.
        weights: The file.

    Raises:
        ValueError: A changed ledger.
    """
    if not path:
        return UNKNOWN % weights + "."
    ledger = Ledger(path)
    runs = erasures(ledger)
    newest, found = _newest(ledger, runs), file_sha256(weights)
    if newest is None:
        return f"{weights}: nothing is entered in {ledger.path} yet."
    if found == newest:
        return f"{weights}: the weights with which {ledger.path} ends."
    return f"{weights}: {_known(runs, found)}; unlearn refuses them, since {_end(ledger, newest)}."


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
