"""Which ledger a run belongs to."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from scripts.requests.ledger import NAME
from scripts.run.config import bundle_root
from scripts.run.files import file_sha256

VARIABLE = "MRI_UNLEARNING_LEDGER"
logger = logging.getLogger(__name__)


def find_ledger(weights: str | Path | Mapping, output_dir: str | Path | None = None) -> str | None:
    """The ledger that some weights belong to: the one beside them, that their record names or the environment does.

    A copy of weights in another folder has neither the ledger beside it nor a record that names it. Where
    ``MRI_UNLEARNING_LEDGER`` names one file for all runs, such a copy is found to be what it is.

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
    if os.environ.get(VARIABLE):
        found.add(Path(os.environ[VARIABLE]).resolve())
    there = None if output_dir is None else Path(output_dir) / NAME
    if there is not None and there.is_file():
        found.add(there.resolve())
    if len(found) > 1 and not isinstance(weights, Mapping):
        raise ValueError(
            f"'ledger': {weights}, 'output_dir' and {VARIABLE} belong to different ledgers: "
            f"{', '.join(sorted(map(str, found)))}; say which one counts: --ledger FILE"
        )
    if found or there is None or output_dir is None:
        return str(found.pop()) if len(found) == 1 else None
    folder = Path(files[0]).parent
    shared = folder.resolve() == Path(bundle_root(), "models").resolve()
    return str(there if shared or not os.access(folder, os.W_OK) else folder / NAME)


def _ledger_of(weights: Path, needed: bool) -> Path | None:
    if (beside := weights.with_name(NAME)).is_file():
        return beside.resolve()
    named = remembered(weights).get("path")
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
