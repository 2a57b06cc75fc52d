"""What a certificate states: what was asked, done and measured, in numbers, hashes and words of the project's own."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.audit.audit import GUARANTEE
from scripts.audit.gates import project_gates
from scripts.data.volumes import Volume
from scripts.requests.cohorts import Cohorts
from scripts.requests.ledger import Ledger
from scripts.run.files import file_sha256, json_sha256
from scripts.run.keys import MIN_KEY, keyed_hash

SCHEMA_VERSION = "4.0"
SCHEMA_FILE = Path(__file__).with_name("certificate.schema.json")
OUTPUTS = (
    "audit.json", "audit.md", "audit.html", "metrics.csv", "metrics.json", "table.md", "hallucination.png",
    "panels.png",
)  # fmt: skip
# the audit's, as they are
FIGURES = ("verdict", "forgetting", "gates", "control", "declared", "models", "measures", "provenance")
SCHEME = "HMAC-SHA256"
MIN_IDENTIFIER = 3
DIGEST = re.compile(r"[0-9a-f]{16,64}")
IDENTIFYING = ("patient", "subject", "study", "institution", "station", "operator", "referring", "physician")
SETTINGS = ("method", "retain_fraction", "seed", "started", "declaration")
VERBS = ("train", "unlearn")
PLAIN_FIELDS = ("anatomy", "acquisition")  # they name no patient
LIMITS = (
    "The figures hold for the scans, the masks and the measures named here; other data or attacks may differ.",
    "Copies of the original weights, of the scans and of earlier outputs are outside this certificate.",
    "The hashes show that files are those that were certified, not that the run was carried out as recorded.",
    "Runs and audits whose certificate nobody outside has seen can be taken back with the ledger that knows them.",
    "Keyed hashes of identifiers are pseudonyms: whoever holds the key can link them to patients.",
)


class Identifiers:
    """Turns identifiers into keyed hashes; without the key they can neither be read nor guessed and compared.

    Args:
        key: The secret key, at least 16 bytes, kept apart from the certificate.
        volumes: The volumes whose patients and names must be kept out of texts.

    >>> one, other = Identifiers(b"a key of 16 bytes or more"), Identifiers(b"another key of this length")
    >>> one.hash("patient", "P017") == other.hash("patient", "P017")
    False
    """

    def __init__(self, key: bytes, volumes: Iterable[Volume] = ()) -> None:
        if len(key) < MIN_KEY:
            raise ValueError(f"identifier key: expected at least {MIN_KEY} bytes, found {len(key)}")
        self._key = key
        words = {text.lower() for volume in volumes for text in identifying(volume)}
        words = {text for text in words if len(text) >= MIN_IDENTIFIER}
        longest_first = "|".join(map(re.escape, sorted(words, key=lambda text: (-len(text), text))))
        self._pattern = re.compile(rf"(?<![^\W_])(?:{longest_first})(?![^\W_])", re.I) if words else None

    @property
    def key_id(self) -> str:
        """Names the key without giving it away."""
        return self.hash("key", "id")[:16]

    def hash(self, kind: str, value: str) -> str:
        """HMAC-SHA256 of a value of some kind, 64 hexadecimal digits."""
        return keyed_hash(self._key, kind, value)

    def redact(self, content: Any, public: Collection[str] = ()) -> Any:
        """The same JSON content with each identifier in its values replaced by the start of its keyed hash.

        Args:
            content: JSON content, whose keys are the project's own.
            public: Words in lower case that name nobody, although a folder of scans may be called so, such as "data".
        """
        if isinstance(content, str):
            if self._pattern is None or DIGEST.fullmatch(content):
                return content
            return self._pattern.sub(lambda match: self._unless(match[0], public), content)
        if isinstance(content, dict):
            return {key: self.redact(value, public) for key, value in content.items()}
        if isinstance(content, (list, tuple)):
            return [self.redact(value, public) for value in content]
        return content

    def _unless(self, word: str, public: Collection[str]) -> str:
        return word if word.lower() in public else f"[{self.hash('text', word.lower())[:16]}]"


def identifying(volume: Volume) -> set[str]:
    """What names a scan or its patient: its file and folder, their stems, and what headers say of a person."""
    fields = [v for k, v in volume.fields.items() if k.lower().startswith(IDENTIFYING)]
    parts = [part for path in (volume.name, volume.path) for part in Path(path).parts[-2:]]
    return {volume.patient_id, volume.name, *fields, *parts, *(Path(part).stem for part in parts)} - {""}


def make_predicate(
    data: Cohorts,
    audit_dir: Path,
    record_path: Path,
    identifiers: Identifiers,
    declaration: Mapping[str, Any],
    ledger: str | Path | bool | None = None,
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
        ledger: The ledger, whose last line the certificate remembers; None or False: none.

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
        "request": _request(record["forget_request"], identifiers),
        "forget_files": _forget_files(data, record, identifiers),
        "declaration": dict(declaration),
        "datalist": {"sha256": file_sha256(data.datalist)},
        "ledger": _last_line(ledger),
        "retain_subset": _retain_subset(record, identifiers),
        "method": _method(record),
        "oracle_seen": {
            "used_to_choose_settings": audit["oracle_tuned"],
            "compared_with_after_unlearning": record.get("oracle_weights") is not None,
        },
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


def _request(request: Mapping[str, Any], identifiers: Identifiers) -> dict[str, Any]:
    """The forget request: everything but anatomy and acquisition as keyed hashes."""
    return {
        "request_id": identifiers.hash("request", str(request["request_id"])),
        "reason": identifiers.hash("reason", str(request["reason"])),
        "selectors": [
            {field: _selector(field, value, identifiers) for field, value in selector.items()}
            for selector in request["forget"]
        ],
    }


def _retain_subset(record: Mapping[str, Any], identifiers: Identifiers) -> dict[str, Any]:
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


def _method(record: Mapping[str, Any]) -> dict[str, Any]:
    """How the run unlearned, with what, and the ledger's line with which it began."""
    return {
        **{name: record.get(name) for name in SETTINGS},
        "ledger": {name: entry[name] for name in ("line", "line_sha256")} if (entry := record.get("ledger")) else None,
        "configuration_sha256": json_sha256(record["configuration"]),
        "device": record.get("device"),
        **{name: record["environment"][name] for name in ("packages", "python", "platform", "code_sha256")},
    }


def _last_line(ledger: str | Path | bool | None) -> dict[str, Any] | None:
    """The number of the ledger's last line and its SHA-256: a ledger that is set back no longer has it."""
    known = Ledger(str(ledger)) if ledger else None
    return {"line": (last := len(known.lines)), "line_sha256": known.line_hash(last)} if known and known.lines else None


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
