"""The training that some weights go back to, however many runs have changed them since."""

from __future__ import annotations

import os
from pathlib import Path

from scripts.requests.ledger import Ledger
from scripts.requests.which_ledger import json_object
from scripts.run.files import file_sha256


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
    if not record.is_file() or json_object(record).get("verb") != "train":
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
