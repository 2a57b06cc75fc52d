"""What a certificate states: what was asked, done and measured, in numbers, hashes and words of the project's own."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.audit.audit import GUARANTEE
from scripts.audit.gates import project_gates
from scripts.certificate.identifiers import SCHEME, Identifiers
from scripts.requests.cohorts import Cohorts
from scripts.run.files import file_sha256, json_sha256

SCHEMA_VERSION = "3.0"
SCHEMA_FILE = Path(__file__).with_name("certificate.schema.json")
OUTPUTS = (
    "audit.json",
    "audit.md",
    "audit.html",
    "metrics.csv",
    "metrics.json",
    "table.md",
    "hallucination.png",
    "panels.png",
)
FIGURES = (
    "verdict",
    "forgetting",
    "gates",
    "control",
    "declared",
    "models",
    "measures",
    "provenance",
)  # the audit's, as they are
SETTINGS = ("method", "retain_fraction", "seed", "started", "declaration")
VERBS = ("train", "unlearn")
PLAIN_FIELDS = ("anatomy", "acquisition")  # they name no patient
LIMITS = (
    "The figures hold for the scans, the masks and the measures named here; other data or attacks may differ.",
    "Copies of the original weights, of the scans and of earlier outputs are outside this certificate.",
    "The hashes show that files are those that were certified, not that the run was carried out as recorded.",
    "Keyed hashes of identifiers are pseudonyms: whoever holds the key can link them to patients.",
)


def make_predicate(
    data: Cohorts, audit_dir: Path, record_path: Path, identifiers: Identifiers, declaration: Mapping[str, Any]
) -> dict[str, Any]:
    """The predicate of the in-toto Statement.

    Names of patients, scans, files and folders, the request's number and its reason appear as keyed hashes or not at
    all; what else is free text is searched for identifiers.

    Args:
        data: The volumes, split by the forget request.
        audit_dir: a finished audit's folder.
        record_path: The unlearning run's record.
        identifiers: Makes the keyed hashes.
        declaration: Content of ``declaration.json``.

    Raises:
        ValueError: the record's forget set is not that of the data.
    """
    record = json.loads(record_path.read_text(encoding="utf-8"))
    audit = json.loads((audit_dir / "audit.json").read_text(encoding="utf-8"))
    body = {
        "schema_version": SCHEMA_VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "statement": GUARANTEE,
        "limits": list(LIMITS),
        "identifiers": {"scheme": SCHEME, "key_id": identifiers.key_id},
        "request": request_entry(record["forget_request"], identifiers),
        "forget_files": _forget_files(data, record, identifiers),
        "declaration": dict(declaration),
        "datalist": {"sha256": file_sha256(data.datalist)},
        "retain_subset": retain_subset(record, identifiers),
        "method": method(record),
        "oracle_seen": oracle_seen(record, audit),
        "weights": {
            name: {key: entry[key] for key in ("sha256", "tensors_sha256")}
            for name, entry in audit["inputs"]["weights"].items()
        },
        "audit": {
            **{name: audit[name] for name in FIGURES},
            "device": audit["device"],
            "configuration_sha256": json_sha256(audit["configuration"]),
            "code_sha256": audit["environment"]["code_sha256"],
        },
        "records": [
            {"model": name, "sha256": entry["sha256"]}
            for name, entries in audit["inputs"]["records"].items()
            for entry in entries
        ],
        "outputs": {name: file_sha256(audit_dir / name) for name in OUTPUTS},
    }
    return {**identifiers.redact(body, vocabulary(body)), "declaration": dict(declaration)}


def vocabulary(content: Any) -> set[str]:
    """Words that name nobody: those of the schema, of the gates, of a content's keys and code, and of plain fields."""
    own = [SCHEMA_FILE.read_text(encoding="utf-8"), *VERBS, *(f"{g['name']} {g['measure']}" for g in project_gates())]
    return set(re.findall(r"\w+", " ".join([*own, *_own_texts(content)]).lower()))


def _own_texts(content: Any) -> Iterator[str]:
    """Keys of a JSON content, at any depth, names of components, and values of fields that name no patient."""
    if isinstance(content, Mapping):
        yield from map(str, content)
        yield from (str(content[key]) for key in ("_target_", *PLAIN_FIELDS) if key in content)
        for value in content.values():
            yield from _own_texts(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _own_texts(value)


def request_entry(request: Mapping[str, Any], identifiers: Identifiers) -> dict[str, Any]:
    """The forget request: everything but anatomy and acquisition as keyed hashes."""
    return {
        "request_id": identifiers.hash("request", str(request["request_id"])),
        "reason": identifiers.hash("reason", str(request["reason"])),
        "selectors": [
            {field: _selector(field, value, identifiers) for field, value in selector.items()}
            for selector in request["forget"]
        ],
    }


def retain_subset(record: Mapping[str, Any], identifiers: Identifiers) -> dict[str, Any]:
    """Which retain scans the run read and how they were chosen."""
    entry = record["data"]["retain"]
    selection = record.get("retain_selection") or {}
    return {
        "rule": selection.get("rule", "none stated"),
        "fraction": record.get("retain_fraction"),
        "seed": record["seed"],
        "volumes": len(entry["volumes"]),
        "slices": entry["slices"],
        "files": [identifiers.hash("file", volume["volume"]) for volume in entry["volumes"]],
    }


def method(record: Mapping[str, Any]) -> dict[str, Any]:
    """How the run unlearned, with what, and the ledger's line with which it began."""
    return {
        **{name: record.get(name) for name in SETTINGS},
        "ledger": {name: entry[name] for name in ("line", "line_sha256")} if (entry := record.get("ledger")) else None,
        "configuration_sha256": json_sha256(record["configuration"]),
        "device": record.get("device"),
        **{name: record["environment"][name] for name in ("packages", "python", "platform", "code_sha256")},
    }


def oracle_seen(record: Mapping[str, Any], audit: Mapping[str, Any]) -> dict[str, bool | None]:
    """Whether the oracle was looked at, for the settings and after the run."""
    return {
        "used_to_choose_settings": audit["oracle_tuned"],
        "compared_with_after_unlearning": record.get("oracle_weights") is not None,
    }


def _forget_files(data: Cohorts, record: Mapping[str, Any], identifiers: Identifiers) -> list[dict]:
    names = {volume.name: volume for volume in data.forget}
    files = record["forgotten"]
    if {entry["volume"] for entry in files} != set(names):
        raise ValueError(
            "certificate: the run record's forget set is not the one of the datalist and the forget request"
        )
    return [
        {
            "file": identifiers.hash("file", entry["volume"]),
            "patient": identifiers.hash("patient", names[entry["volume"]].patient_id or entry["volume"]),
            "sha256": entry["sha256"],
            "slices": names[entry["volume"]].num_slices,
        }
        for entry in files
    ]


def _selector(field: str, value: Any, identifiers: Identifiers) -> Any:
    if field in PLAIN_FIELDS:
        return value
    if isinstance(value, (list, tuple)):
        return [identifiers.hash(field, str(one)) for one in value]
    return identifiers.hash(field, str(value))
