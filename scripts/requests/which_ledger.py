"""Which ledger a run belongs to."""

from __future__ import annotations

import json
import os
from pathlib import Path

from scripts.requests.ledger import NAME
from scripts.run.files import file_sha256

VARIABLE = "MRI_UNLEARNING_LEDGER"


def find_ledger(output_dir: str | Path) -> str:
    """The ledger of all runs whose folders lie beside each other: one file for what was ever erased.

    Args:
        output_dir: The folder of a run, e.g. ``outputs/2026-017``: the ledger is ``outputs/ledger.jsonl``. Where
            ``MRI_UNLEARNING_LEDGER`` names a file, that one counts for all runs of an institution.
    """
    return os.environ.get(VARIABLE) or str(Path(output_dir).absolute().parent / NAME)


def remembered(weights: Path) -> dict:
    """What the record beside some weights says about the ledger, if it is their record."""
    record = weights.with_suffix(".json")
    content = json_object(record) if record.is_file() else {}
    if not weights.is_file() or (content.get("weights_out") or {}).get("sha256") != file_sha256(weights):
        return {}
    return content.get("ledger") or {}


def json_object(path: Path) -> dict:
    """The object in a JSON file; empty where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
