"""What a ledger says was erased, and which scans of a datalist that concerns."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scripts.data.digests import known_sha256
from scripts.data.volumes import Volume, read_slice
from scripts.requests.forget_request import ForgetRequest
from scripts.requests.ledger import Ledger
from scripts.run.files import file_sha256, json_object


@dataclass(frozen=True)
class Erasure:
    """One run that carried out one request or several."""

    number: int  # of the ledger's line on which it began
    requests: Mapping[str, str]  # identifier of each request by the keyed hash of its text
    weights_in: str | None  # SHA-256 of the weights before; None where the run had none
    weights_out: str  # the same of those after
    scans: Sequence[Mapping[str, Any]]  # see scan_entry
    patients: Sequence[str]  # keyed hashes of those all of whose scans went
    like: Sequence[Mapping[str, Any]] = ()  # test scans that the requests select: nothing was learnt from them

    @property
    def name(self) -> str:
        """The identifiers of its requests."""
        return ", ".join(self.requests.values())


def request_digest(ledger: Ledger, request: ForgetRequest) -> str:
    """Keyed hash of what a request says, by which the ledger knows it again without holding a patient's name."""
    content = [request.request_id, list(request.forget), request.keep_other_scans]
    return ledger.hash("request", json.dumps(content, sort_keys=True))


def scan_entry(volume: Volume) -> dict:
    """By what a scan is known again: SHA-256 and size of its file, shape of its k-space, hash of its middle slice."""
    return {
        "sha256": known_sha256(volume.path),
        "bytes": Path(volume.path).stat().st_size,
        "shape": list(volume.kspace_shape),
        "slice_sha256": _slice_sha256(volume),
    }


def erasures(ledger: Ledger) -> list[Erasure]:
    """Every finished run in the order of the ledger, also one whose last line a crash has kept from being written."""
    finished = {line["begun"]: line["weights_out"] for line in ledger.lines if line["event"] == "erased"}
    found = []
    for line in (line for line in ledger.lines if line["event"] == "begun"):
        weights_out = finished.get(line["number"]) or outputs_of(ledger, line).get("weights_out")
        if weights_out is not None:
            requests = {request["digest"]: request["request_id"] for request in line["requests"]}
            facts = {name: line.get(name, ()) for name in ("scans", "patients", "like")}
            found.append(Erasure(line["number"], requests, line["weights_in"], weights_out, **facts))
    return found


def outputs_of(ledger: Ledger, begun: Mapping[str, Any]) -> dict[str, str]:
    """``weights_out`` and ``record_sha256`` of a begun run whose files are all there; empty where they are not."""
    weights, record = (Path(os.path.normpath(ledger.path.parent / begun[name])) for name in ("weights", "record"))
    content = json_object(record)
    stated = (content.get("weights_out") or {}).get("sha256")
    same_run = (content.get("ledger") or {}).get("line_sha256") == ledger.line_hash(begun["number"])
    if not same_run or not weights.is_file() or file_sha256(weights) != stated:
        return {}
    return {"weights_out": stated, "record_sha256": file_sha256(record)}


class Erased:
    """Knows scans that a ledger's runs erased: by patient, or by content under whatever name.

    Args:
        ledger: Where the patients' keyed hashes can be made.
        runs: The runs that count.
        which: ``scans``, what they erased, or ``like``, what of the test list they select.
    """

    def __init__(self, ledger: Ledger, runs: Iterable[Erasure], which: Literal["scans", "like"] = "scans") -> None:
        self.ledger = ledger
        self._patients: dict[str, str] = {}
        self._slices: dict[str, str] = {}
        self._shapes: set[tuple[int, ...]] = set()
        for run in runs:
            for patient in run.patients if which == "scans" else ():
                self._patients.setdefault(patient, run.name)
            for scan in run.scans if which == "scans" else run.like:
                self._slices.setdefault(scan["slice_sha256"], run.name)
                self._shapes.add(tuple(scan["shape"]))

    def by(self, volume: Volume) -> str | None:
        """The request that erased a scan, or None; k-space is read only of scans of an erased one's shape."""
        patient = self.ledger.hash("patient", volume.patient_id) if volume.patient_id else ""
        if patient in self._patients:
            return self._patients[patient]
        return self._slices.get(_slice_sha256(volume)) if volume.kspace_shape in self._shapes else None


def _slice_sha256(volume: Volume) -> str:
    kspace, _ = read_slice(volume, volume.num_slices // 2)
    return hashlib.sha256(kspace.tobytes()).hexdigest()
