"""A run that erases as far as the ledger sees one: begun, weights, record, finished; no network is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from scripts.files import atomic_write, file_sha256
from scripts.requests import Cohorts, LedgerEntry


def write_weights(path: Path, text: str) -> Path:
    """A file that stands for weights; equal texts give equal weights."""
    with atomic_write(path) as temporary:
        Path(temporary).write_text(text)
    return path


def request(name: str, *selectors: Mapping, **more) -> dict:
    return {"request_id": name, "reason": "", "forget": list(selectors), **more}


def erase(ledger: Path, datalist: str, asked, weights: Path, output: Path, **settings) -> Path:
    """The weights after the run, in the folder ``output``."""
    made, record = output / "unlearned.pt", output / "unlearned.json"
    outputs = {"weights": str(made), "record": str(record)}
    entry = LedgerEntry(ledger, Cohorts(datalist, asked, ledger), weights, outputs, **settings)
    entry.check()
    remembered = entry.begin()
    write_weights(made, f"{weights.read_text()} without {entry.data.request.request_id}")
    content = {"verb": "unlearn", "weights_out": {"sha256": file_sha256(made)}, "ledger": remembered}
    with atomic_write(record) as temporary:
        Path(temporary).write_text(json.dumps(content))
    entry.finish()
    return made
