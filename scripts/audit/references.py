"""Which weights were trained on which scans: by the records beside them, never by anybody's word."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.audit.inputs import read_record, record_beside
from scripts.audit.provenance import weights_hashes


def files_read(record: Mapping[str, Any], where: str | Path) -> dict[str, frozenset[str]]:
    """Role -> SHA-256 of every file that a run read.

    Args:
        record: The content of a run's record.
        where: Its file, for the error.

    Raises:
        ValueError: The record names a file without its hash, or no file, so that it does not say what was read.
    """
    found = {role: [entry.get("sha256") for entry in part["volumes"]] for role, part in record["data"].items()}
    if not any(found.values()) or not all(all(hashes) for hashes in found.values()):
        raise ValueError(f"{where}: 'data': expected the SHA-256 of each file that was read, found some without")
    return {role: frozenset(hashes) for role, hashes in found.items()}


def read_references(weights: Sequence[str], audited: Mapping[str, str], settings: Mapping[str, Any]) -> list[frozenset]:
    """SHA-256 of the files on which each reference model was trained.

    Args:
        weights: Their files; the record of ``train`` lies beside each.
        audited: model -> file of the audit's own models.
        settings: The ``network`` and ``mask`` of the audit.

    Raises:
        FileNotFoundError: No such weights, or no record beside them.
        ValueError: A record of other weights or of another verb than ``train``, one that does not state the hash of
            each file, another network or mask than the audit's, weights that are given twice, or those of the original
            or of the audited model.
    """
    seen = {
        weights_hashes(path)["tensors_sha256"]: name for name, path in audited.items() if name in ("G", "unlearned")
    }
    references = []
    for path in map(str, weights):
        if not Path(path).is_file():
            raise FileNotFoundError(f"audit: 'reference_weights': no such file: {path}")
        beside = record_beside(path)
        record = read_record(beside, path)
        if beside is None or record is None:
            raise FileNotFoundError(
                f"audit: 'reference_weights': {path}: no record beside it ({Path(path).with_suffix('.json').name}), "
                "which says what it was trained on"
            )
        if record.get("verb") != "train" or record.get("weights_in") is not None:
            raise ValueError(f"{beside}: expected a training by the verb train from fresh weights, found another run")
        for name in ("network", "mask"):
            if record.get("configuration", {}).get(name) != json.loads(json.dumps(settings[name])):
                raise ValueError(f"{beside}: {name!r}: expected the audit's, found another one")
        digest = weights_hashes(path)["tensors_sha256"]
        if digest in seen:
            raise ValueError(f"audit: 'reference_weights': {path}: expected other weights than those of {seen[digest]}")
        seen[digest] = path
        references.append(frozenset().union(*files_read(record, beside).values()))
    return references
