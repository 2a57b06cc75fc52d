"""What a run reads from the ledger before it starts and enters when it has ended."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from filelock import FileLock

from scripts.files import file_sha256, let_go
from scripts.requests.cohorts import Cohorts
from scripts.requests.erasures import Erasure, erasures, outputs_of, request_digest, scan_entry
from scripts.requests.ledger import NAME, Ledger
from scripts.run_config import bundle_root

logger = logging.getLogger(__name__)
_HELD: dict[str, FileLock] = {}  # locks of this process's runs; one that failed leaves its own behind


def find_ledger(weights: str | Path | Mapping, output_dir: str | Path | None = None) -> str | None:
    """The ledger that some weights belong to: the one beside them, or the one that their record names.

    Args:
        weights: A file of weights; of a mapping of several, the one ledger that they have, if it is one.
        output_dir: The folder of a run that erases. Where the weights have no ledger, one is to be begun: beside them,
            so that whoever starts from them again finds it, or in this folder, where that is not possible or the
            weights are the bundle's own, which belong to everybody. None: no ledger then.

    Raises:
        ValueError: Two ledgers; with ``output_dir``, as of a verb that trains, also one that a record names and that is
            not there.
    """
    files = list(weights.values()) if isinstance(weights, Mapping) else [weights]
    found = {path for file in files if (path := _ledger_of(Path(file), output_dir is not None)) is not None}
    there = None if output_dir is None else Path(output_dir) / NAME
    if there is not None and there.is_file():
        found.add(there.resolve())
    if len(found) > 1 and not isinstance(weights, Mapping):
        raise ValueError(
            f"'ledger': {weights} and 'output_dir' belong to different ledgers: {', '.join(sorted(map(str, found)))}; "
            "say which one counts: --ledger FILE"
        )
    if found or there is None or output_dir is None:
        return str(found.pop()) if len(found) == 1 else None
    folder = Path(files[0]).parent
    shared = folder.resolve() == Path(bundle_root(), "models").resolve()
    return str(there if shared or not os.access(folder, os.W_OK) else folder / NAME)


def _ledger_of(weights: Path, needed: bool) -> Path | None:
    if (beside := weights.with_name(NAME)).is_file():
        return beside.resolve()
    named = _remembered(weights).get("path")
    if named is None:
        return None
    path = Path(os.path.normpath(weights.parent.resolve() / named))
    if path.is_file():
        return path
    problem = f"{weights.with_suffix('.json')}: 'ledger': no such file: {path}; say where it is now: --ledger FILE"
    if needed:
        raise ValueError(problem)
    logger.warning("%s", problem)
    return None


class LedgerEntry:
    """The lines of one unlearning run: one when it begins, with what it will erase, and one when its files are there.

    From the first to the second no other run can have the ledger.

    Args:
        ledger: The file; None or False: nothing is checked or entered.
        data: The run's cohorts.
        weights: The weights that the run starts from.
        outputs: The files that the run will write: ``weights`` and their ``record``.
        older_weights: Whether the weights may be others than those with which the ledger ends.
        wanted: Whether the run is entered at all.
    """

    def __init__(
        self,
        ledger: str | Path | None,
        data: Cohorts,
        weights: str | Path,
        outputs: Mapping[str, str],
        older_weights: bool = False,
        wanted: bool = True,
    ) -> None:
        self.path = Path(ledger) if ledger and wanted else None
        self.data = data
        self.weights = Path(weights)
        self.outputs = dict(outputs)
        self.older_weights = older_weights

    def check(self) -> None:
        """Read the ledger and refuse weights that do not follow from it; nothing is written.

        Raises:
            ValueError: A changed ledger; weights that it does not end with; a request that was carried out before.
        """
        if self.path is not None:
            self._check(Ledger(self.path))

    @idist.one_rank_only()
    def begin(self) -> dict | None:
        """Take the ledger, complete what a crash has left, and enter what this run will erase.

        Returns:
            For the record: ``path``, ``line`` and ``line_sha256`` of the entry; None without a ledger.

        Raises:
            RuntimeError: Another run has the ledger.
            ValueError: See :meth:`check`.
        """
        if self.path is None:
            return None
        ledger = Ledger(self.path)
        key = str(self.path.resolve())
        if key in _HELD:
            let_go(_HELD.pop(key))
        _HELD[key] = ledger.lock()
        ledger.read()
        _complete(ledger)
        self._check(ledger)
        ledger.begin()
        self._line = self._enter(ledger)
        folder = Path(self.outputs["record"]).resolve().parent
        return {
            "path": os.path.relpath(self.path.resolve(), folder),
            "line": self._line,
            "line_sha256": ledger.line_hash(self._line),
        }

    @idist.one_rank_only()
    def finish(self) -> None:
        """Enter the run's weights and its record, and let others have the ledger."""
        if self.path is not None:
            ledger = Ledger(self.path)
            outputs = outputs_of(ledger, ledger.lines[self._line - 1])
            if not outputs:
                raise ValueError(f"{self.outputs['record']}: expected this run's record and weights, found others")
            ledger.append("erased", begun=self._line, **outputs)
            let_go(_HELD.pop(str(self.path.resolve())))
            logger.info("entered in %s, line %d", self.path, len(ledger.lines))

    def _check(self, ledger: Ledger) -> None:
        if ledger.lines:
            own = {request_digest(ledger, request) for request in self.data.requests}
            _check_weights(ledger, self.weights, own, self.older_weights)

    def _enter(self, ledger: Ledger) -> int:
        folder = ledger.path.resolve().parent
        with ThreadPoolExecutor() as pool:  # reading and hashing leave the interpreter free
            scans = list(pool.map(scan_entry, self.data.forget))
        kept = {request.keep_other_scans for request in self.data.requests}
        patients = set() if True in kept else {volume.patient_id for volume in self.data.forget} - {""}
        facts: dict[str, Any] = {
            "requests": [
                {
                    "request_id": request.request_id,
                    "digest": request_digest(ledger, request),
                    "fields": sorted({key for selector in request.forget for key in selector}),
                }
                for request in self.data.requests
            ],
            "scans": scans,
            "patients": sorted(ledger.hash("patient", patient) for patient in patients),
            "weights_in": file_sha256(self.weights),
            "trained_by": training_record(ledger, self.weights),
            **{name: os.path.relpath(Path(path).resolve(), folder) for name, path in self.outputs.items()},
        }
        last = ledger.lines[-1]
        if last["event"] != "begun" or any(last[name] != value for name, value in facts.items()):
            ledger.append("begun", **facts)
        return len(ledger.lines)


def check_newest(path: str | Path | None, weights: str | Path, older_weights: bool = False) -> None:
    """Refuse weights other than those with which a ledger ends: they know what was erased since.

    Args:
        path: The ledger; None or False: nothing is checked.
        weights: The file.
        older_weights: Whether other weights are meant.

    Raises:
        ValueError: Naming the weights, what was found and what was expected.
    """
    if path:
        _check_weights(Ledger(path), weights, set(), older_weights)


def _check_weights(ledger: Ledger, weights: str | Path, own: set[str], older_weights: bool) -> None:
    """``own``: keyed hashes of the requests that are to be carried out on the weights."""
    remembered = _remembered(Path(weights))
    if remembered and ledger.line_hash(remembered["line"]) != remembered["line_sha256"]:
        raise ValueError(
            f"{ledger.path}: expected line {remembered['line']} as {Path(weights).with_suffix('.json')} remembers it, "
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
    known = next((run for run in runs if found in (run.weights_in, run.weights_out)), None)
    what = "weights that it does not know" if known is None else f"older ones (line {known.number})"
    ends = f"{ledger.path} ends ({newest[:12]}…{_where(ledger, newest)})"
    problem = f"{weights}: expected the weights with which {ends}, found {what}"
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
    if not record.is_file() or _json(record).get("verb") != "train":
        return None
    folder = (ledger.path if ledger else record).resolve().parent
    return {"path": os.path.relpath(record.resolve(), folder), "sha256": file_sha256(record)}


def trained_by(path: str | Path | None, weights: str | Path) -> str | None:
    """File of :func:`training_record`; None without a ledger, or where it does not lead back to a training.

    Raises:
        ValueError: A record that is missing or is not what it was.
    """
    if not path or not Path(weights).is_file():
        return None
    found = training_record(Ledger(path), weights)
    if found is None:
        return None
    record = Path(os.path.normpath(Path(path).resolve().parent / found["path"]))
    if not record.is_file() or file_sha256(record) != found["sha256"]:
        raise ValueError(f"{record}: expected the training's record as {path} remembers it, found another or none")
    return str(record)


@idist.one_rank_only()
def enter_training(path: str | Path | None, output_dir: str | Path, name: str, enter: bool) -> None:
    """Enter an original that was trained anew without anything erased; with it the ledger goes on.

    Args:
        path: The ledger; None: nothing is entered.
        output_dir: The folder of the weights, ``<name>.pt``, and of their record, ``<name>.json``.
        name: The name of the network; an oracle, or another one that is only compared with, is not entered.
        enter: False: nothing is entered, since the run is an experiment.
    """
    if not enter or name != "original":
        return
    weights, record = (Path(output_dir, name + suffix) for suffix in (".pt", ".json"))
    _enter(path, "trained", weights_out=file_sha256(weights), record=str(record), record_sha256=file_sha256(record))


def enter_audit(path: str | Path | None, weights: str | Path, audit: str | Path) -> None:
    """Enter an audit's verdict on some weights."""
    verdict = _json(Path(audit))["verdict"]["verdict"]
    _enter(path, "audited", weights=file_sha256(weights), verdict=verdict, audit_sha256=file_sha256(audit))


def _enter(path: str | Path | None, event: str, **facts: Any) -> None:
    if not path:
        return
    ledger = Ledger(path)
    with ledger.locked():
        if "record" in facts:
            facts["record"] = os.path.relpath(Path(facts["record"]).resolve(), Path(path).resolve().parent)
        ledger.append(event, **facts)


def _complete(ledger: Ledger) -> None:
    """Enter the end of runs whose files are there, and name those that never ended."""
    finished = {line["begun"] for line in ledger.lines if line["event"] == "erased"}
    for line in [line for line in ledger.lines if line["event"] == "begun" and line["number"] not in finished]:
        name = ", ".join(request["request_id"] for request in line["requests"])
        outputs = outputs_of(ledger, line)
        if outputs:
            ledger.append("erased", begun=line["number"], **outputs, completed="by the next run")
            logger.warning(
                "%s, line %d: request %s had ended, but not here; completed", ledger.path, line["number"], name
            )
        elif line["number"] == len(ledger.lines):
            logger.warning("%s, line %d: request %s began and never ended", ledger.path, line["number"], name)


def _newest(ledger: Ledger, runs: list[Erasure]) -> str | None:
    """SHA-256 of the weights with which the ledger ends."""
    ends = {run.number: run.weights_out for run in runs}
    ends |= {line["number"]: line["weights_out"] for line in ledger.lines if line["event"] == "trained"}
    return ends[max(ends)] if ends else None


def _where(ledger: Ledger, weights_out: str) -> str:
    """The file in which a run left some weights, in parentheses' words; empty where no run did."""
    begun = {line["begun"] for line in ledger.lines if line["event"] == "erased" and line["weights_out"] == weights_out}
    files = [ledger.lines[number - 1]["weights"] for number in sorted(begun)]
    return f", {os.path.normpath(ledger.path.parent / files[-1])}" if files else ""


def _remembered(weights: Path) -> dict:
    """What the record beside some weights says about the ledger, if it is their record."""
    record = weights.with_suffix(".json")
    content = _json(record) if record.is_file() else {}
    if not weights.is_file() or (content.get("weights_out") or {}).get("sha256") != file_sha256(weights):
        return {}
    return content.get("ledger") or {}


def _json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
