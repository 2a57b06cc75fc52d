"""What a run reads from the ledger before it starts and enters when it has ended."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import ignite.distributed as idist
from filelock import BaseFileLock

from scripts.requests.cohorts import Cohorts
from scripts.requests.erasures import outputs_of, request_digest, scan_entry
from scripts.requests.ledger import Ledger
from scripts.requests.lineage import check_weights, training_record
from scripts.run.files import file_sha256, json_object, let_go

logger = logging.getLogger(__name__)
_HELD: dict[str, BaseFileLock] = {}  # locks of this process's runs; one that failed leaves its own behind


class LedgerEntry:
    """The lines of one unlearning run: one when it begins, with what it will erase, and one when its files are there.

    From the first to the second no other run can have the ledger.

    Args:
        ledger: The file; None or False: nothing is checked or entered.
        data: The run's cohorts.
        weights: The weights that are replaced; None or False: there are none.
        outputs: The files that the run will write: ``weights`` and their ``record``.
        follows: Whether the run starts from the weights, so that they must know nothing that was erased before.
        older_weights: Whether they may be others than those with which the ledger ends.
        wanted: Whether the run is entered at all.
    """

    def __init__(
        self,
        ledger: str | Path | None,
        data: Cohorts,
        weights: str | Path | Literal[False] | None,
        outputs: Mapping[str, str],
        follows: bool = False,
        older_weights: bool = False,
        wanted: bool = True,
    ) -> None:
        self.path = Path(ledger) if ledger and wanted else None
        self.data = data
        self.weights = Path(weights) if weights else None
        self.follows = follows
        self.outputs = dict(outputs)
        self.older_weights = older_weights

    def check(self, ledger: Ledger | None = None) -> None:
        """Read the ledger and refuse weights that do not follow from it; nothing is written.

        Raises:
            ValueError: A changed ledger; weights that it does not end with; a request that was carried out before.
        """
        if self.path is None:
            return
        ledger = ledger or Ledger(self.path)
        if ledger.lines and self.follows and self.weights is not None:
            own = {request_digest(ledger, request) for request in self.data.requests}
            check_weights(ledger, self.weights, own, self.older_weights)

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
        self.check(ledger)
        ledger.begin()
        facts, last = self._facts(ledger), ledger.lines[-1]
        if last["event"] != "begun" or any(last[name] != value for name, value in facts.items()):
            ledger.append("begun", **facts)
        self._line = len(ledger.lines)
        path = os.path.relpath(self.path.resolve(), Path(self.outputs["record"]).resolve().parent)
        return {"path": path, "line": self._line, "line_sha256": ledger.line_hash(self._line)}

    @idist.one_rank_only()
    def finish(self) -> None:
        """Enter the run's weights and its record, and let others have the ledger."""
        if self.path is None:
            return
        ledger = Ledger(self.path)
        outputs = outputs_of(ledger, ledger.lines[self._line - 1])
        if not outputs:
            raise ValueError(f"{self.outputs['record']}: expected this run's record and weights, found others")
        ledger.append("erased", begun=self._line, **outputs)
        let_go(_HELD.pop(str(self.path.resolve())))
        logger.debug("entered in %s, line %d", self.path, len(ledger.lines))

    def _facts(self, ledger: Ledger) -> dict[str, Any]:
        """What the line of the beginning states of requests, scans, patients and weights."""
        with ThreadPoolExecutor() as pool:  # reading and hashing leave the interpreter free
            scans = list(pool.map(scan_entry, self.data.forget))
            like = list(pool.map(scan_entry, [volume for volume in self.data.test if volume.forget]))
        keep = any(request.keep_other_scans for request in self.data.requests)
        patients = set() if keep else {volume.patient_id for volume in self.data.forget} - {""}
        requests = [
            {
                "request_id": request.request_id,
                "digest": request_digest(ledger, request),
                "fields": sorted({key for selector in request.forget for key in selector}),
            }
            for request in self.data.requests
        ]
        folder = ledger.path.resolve().parent
        return {
            "requests": requests,
            "scans": scans,
            "like": like,
            "patients": sorted(ledger.hash("patient", patient) for patient in patients),
            "weights_in": None if self.weights is None else file_sha256(self.weights),
            "trained_by": None if self.weights is None else training_record(ledger, self.weights),
            **{name: os.path.relpath(Path(path).resolve(), folder) for name, path in self.outputs.items()},
        }


def _complete(ledger: Ledger) -> None:
    """Enter the end of runs whose files are there, and name the last one where it never ended."""
    finished = {line["begun"] for line in ledger.lines if line["event"] == "erased"}
    for line in [line for line in ledger.lines if line["event"] == "begun" and line["number"] not in finished]:
        where = (ledger.path, line["number"], ", ".join(request["request_id"] for request in line["requests"]))
        if outputs := outputs_of(ledger, line):
            ledger.append("erased", begun=line["number"], **outputs, completed="by the next run")
            logger.warning("%s, line %d: request %s had ended, but not here; completed", *where)
        elif line["number"] == len(ledger.lines):
            logger.warning("%s, line %d: request %s began and never ended", *where)


@idist.one_rank_only()
def enter_training(path: str | Path | None, output_dir: str | Path, name: str, enter: bool) -> None:
    """Enter an original that was trained anew without anything erased; with it the ledger goes on.

    Args:
        path: The ledger; None: nothing is entered.
        output_dir: The folder of the weights, ``<name>.pt``, and of their record, ``<name>.json``.
        name: The name of the network; an oracle, or another one that is only compared with, is not entered.
        enter: False: nothing is entered, since the run is an experiment.
    """
    if not path or not enter or name != "original":
        return
    weights, record = (Path(output_dir, name + suffix) for suffix in (".pt", ".json"))
    place = os.path.relpath(record.resolve(), Path(path).resolve().parent)
    _enter(path, "trained", weights_out=file_sha256(weights), record=place, record_sha256=file_sha256(record))


def enter_audit(path: str | Path | None, weights: str | Path, audit: str | Path) -> None:
    """Enter an audit's verdict on some weights."""
    if path:
        verdict = json_object(audit)["verdict"]["verdict"]
        _enter(path, "audited", weights=file_sha256(weights), verdict=verdict, audit_sha256=file_sha256(audit))


def _enter(path: str | Path, event: str, **facts: Any) -> None:
    ledger = Ledger(path)
    with ledger.locked():
        ledger.append(event, **facts)
