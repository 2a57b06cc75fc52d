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
            ``MRI_UNLEARNING_LEDGER`` names a file, that one counts for all runs.
    """
    return os.environ.get(VARIABLE) or str(Path(output_dir).absolute().parent / NAME)


def ledger_of(run_dir: str | Path | None) -> str | None:
    """The ledger in which a finished run stands, by its record; None without a run or where it was not entered.

    Args:
        run_dir: The folder that ``unlearn`` wrote.
    """
    if run_dir is None:
        return None
    stated = (json_object(Path(run_dir, "unlearned.json")).get("ledger") or {}).get("path")
    named = None if stated is None else Path(os.path.normpath(Path(run_dir).resolve() / stated))
    return str(named) if named is not None and named.is_file() else None


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
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
