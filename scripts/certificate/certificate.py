"""The certificate of unlearning: what was asked, done and measured, with a hash of everything it rests on."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema

from scripts.audit.audit import GUARANTEE
from scripts.audit.section import tables_html
from scripts.audit.tables import Table
from scripts.certificate.chain import content_sha256, link
from scripts.certificate.identifiers import SCHEME, Identifiers, make_key, read_key
from scripts.certificate.signature import read_private_key, sign
from scripts.files import atomic_write, file_sha256
from scripts.requests.cohorts import Cohorts

SCHEMA_VERSION = "1.0"
SCHEMA_FILE = Path(__file__).with_name("certificate.schema.json")
NAME = "certificate.json"
OUTPUTS = ("audit.md", "audit.html", "metrics.csv", "metrics.json", "table.md", "hallucination.png", "panels.png")
FIGURES = ("verdict", "gates", "control", "declared", "models", "measures", "provenance")  # the audit's, as they are
PLAIN_FIELDS = ("anatomy", "acquisition")  # selectors on these name no patient
LIMITS = (
    "The figures hold for the scans, the masks and the measures named here; other data or attacks may differ.",
    "Copies of the original weights, of the scans and of earlier outputs are outside this certificate.",
    "The hashes show that files are those that were certified, not that the run was carried out as recorded.",
    "Keyed hashes of identifiers are pseudonyms: whoever holds the key can link them to patients.",
)
SIGN_HERE = {"name": "", "role": "", "organisation": "", "date": "", "signature": ""}
logger = logging.getLogger(__name__)


class Certifier:
    """Writes ``certificate.json`` for an audit, from its outputs and the record of the unlearning run.

    Args:
        data: the volumes, split by the forget request.
        output_dir: the audit's folder.
        identifier_key: file with the key of the keyed hashes; None: the environment variable
            ``MRI_UNLEARNING_KEY``, else ``<output_dir>/identifiers.key``, which is made where it is missing.
        signing_key: Ed25519 private key (PEM); None: no signature.
        wanted: whether a certificate is to be written at all.
    """

    def __init__(
        self,
        data: Cohorts,
        output_dir: str | Path,
        identifier_key: str | Path | None = None,
        signing_key: str | Path | None = None,
        wanted: bool = True,
    ) -> None:
        self.data = data
        self.output_dir = Path(output_dir)
        self.identifier_key = identifier_key
        self.signing_key = signing_key
        self.wanted = wanted

    def check(self, record: str | Path | bool | None) -> None:
        """Refuse what would keep the certificate from being written after the audit has run.

        Args:
            record: file of the unlearning run's record; False: there is none, then there is no certificate.

        Raises:
            FileNotFoundError, ValueError: no run record, no readable key, or a patient's identifier in a path.
        """
        if not self.wanted or record is False:
            return
        if record is None:
            raise FileNotFoundError(
                "certificate: 'run_record': found none beside the audited weights; name it, or set certificate to false"
            )
        read_key(self.identifier_key)
        if self.signing_key is not None:
            read_private_key(self.signing_key)
        names = Identifiers(b"\0" * 16, self._volumes())
        for path in (record, self.output_dir):
            if names.found_in(str(path)):
                raise ValueError(f"certificate: {path}: expected a path without patient identifiers, found one in it")

    def write(self, weights: Mapping[str, str], record: str | Path | bool | None) -> dict | None:
        """Write the certificate and, with a signing key, its detached signature.

        Args:
            weights: name -> file of the audited models, at least ``G`` and ``unlearned``.
            record: file of the unlearning run's record; False: there is none.

        Returns:
            The certificate; None where none is wanted.
        """
        if not self.wanted or not isinstance(record, (str, Path)):
            return None
        key = read_key(self.identifier_key) or make_key(self.output_dir / "identifiers.key")
        identifiers = Identifiers(key, self._volumes())
        body = identifiers.redact(self._body(weights, Path(record), identifiers))
        certificate = {**body, "content_sha256": content_sha256(body)}
        jsonschema.validate(certificate, json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
        path = self.output_dir / NAME
        with atomic_write(path) as temporary:
            text = json.dumps(certificate, indent=2, ensure_ascii=False, allow_nan=False)
            Path(temporary).write_text(text + "\n", encoding="utf-8")
        if self.signing_key is not None:
            sign(path, self.signing_key)
        logger.info("certificate in %s; check it with: python -m scripts.certificate.verify %s", path, path)
        return certificate

    def _volumes(self):
        return [volume for section in self.data.sections.values() for volume in section]

    def _body(self, weights: Mapping[str, str], record_path: Path, identifiers: Identifiers) -> dict[str, Any]:
        record = json.loads(record_path.read_text(encoding="utf-8"))
        audit = json.loads((self.output_dir / "audit.json").read_text(encoding="utf-8"))
        settings = ("method", "retain_fraction", "seed")
        return {
            "schema_version": SCHEMA_VERSION,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "statement": GUARANTEE,
            "limits": list(LIMITS),
            "identifiers": {"scheme": SCHEME, "key_id": identifiers.key_id},
            "request": _request(self.data, record, identifiers),
            "datalist": {"sha256": file_sha256(self.data.datalist)},
            "retain_subset": _retain_subset(record, identifiers),
            "method": {
                **{name: record.get(name) for name in settings},
                "configuration_sha256": content_sha256(record["configuration"]),
                "device": record.get("device"),
                **{name: record["environment"][name] for name in ("packages", "python", "platform", "code_sha256")},
            },
            "cost": audit["measures"]["cost"],
            "oracle_seen": {
                "used_to_choose_settings": audit["declared"]["oracle_tuned"],
                "compared_with_after_unlearning": record.get("oracle_weights") is not None,
            },
            "weights": {
                name: {**self._file(path), "tensors_sha256": audit["inputs"]["weights"][name]["tensors_sha256"]}
                for name, path in weights.items()
            },
            "audit": {
                **{name: audit[name] for name in FIGURES},
                "device": audit["device"],
                "configuration_sha256": content_sha256(audit["configuration"]),
                "code_sha256": audit["environment"]["code_sha256"],
            },
            "records": self._records(audit),
            "outputs": [self._file(self.output_dir / name) for name in OUTPUTS],
            "signed_by": dict(SIGN_HERE),
        }

    def _records(self, audit: Mapping) -> list[dict]:
        """Every record once: those that led to the models, the oldest first, then the audit's own."""
        files: dict[str, str] = {}
        for name, records in audit["inputs"]["records"].items():
            for record in reversed(records):
                files.setdefault(record["path"], name)
        files[str(self.output_dir / "audit.json")] = "audit"
        return link({"kind": kind, **self._file(path)} for path, kind in files.items())

    def _file(self, path: str | Path) -> dict[str, str]:
        relative = os.path.relpath(path, self.output_dir)
        return {"file": Path(relative).as_posix(), "sha256": file_sha256(path)}


def _request(data: Cohorts, record: Mapping, identifiers: Identifiers) -> dict:
    request = record["forget_request"]
    names = {volume.name: volume for volume in data.forget}
    files = record["data"]["forget"]["volumes"]
    if {entry["volume"] for entry in files} != set(names):
        raise ValueError(
            "certificate: the run record's forget set is not the one of the datalist and the forget request"
        )
    return {
        "request_id": request["request_id"],
        "reason": request["reason"],
        "selectors": [
            {f: v if f in PLAIN_FIELDS else identifiers.hash(f, str(v)) for f, v in selector.items()}
            for selector in request["forget"]
        ],
        "forget_files": [
            {
                "file": identifiers.hash("file", entry["volume"]),
                "patient": identifiers.hash("patient", names[entry["volume"]].patient_id or entry["volume"]),
                "sha256": entry["sha256"],
                "slices": names[entry["volume"]].num_slices,
            }
            for entry in files
        ],
    }


def _retain_subset(record: Mapping, identifiers: Identifiers) -> dict:
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


def certificate_section(certificate: Mapping[str, Any], level: int = 2) -> str:
    """The certificate as HTML tables for a report: request, run, files and the place to sign."""
    request, method, subset = certificate["request"], certificate["method"], certificate["retain_subset"]
    facts = [
        ["verdict", certificate["audit"]["verdict"]["verdict"]],
        ["request", f"{request['request_id']}: {request['reason']}"],
        ["forget set", f"{len(request['forget_files'])} scans"],
        ["method", str(method["method"])],
        [
            "retain subset",
            f"{subset['rule']}: {subset['volumes']} scans, {subset['slices']} slices, seed {subset['seed']}",
        ],
        ["weights before", certificate["weights"]["G"]["sha256"]],
        ["weights after", certificate["weights"]["unlearned"]["sha256"]],
        ["code", method["code_sha256"]],
        ["content", certificate["content_sha256"]],
    ]
    signing = [[name, value or "…………………………"] for name, value in certificate["signed_by"].items()]
    tables = [
        Table("Certificate of unlearning", certificate["statement"], ["field", "content"], facts),
        Table("Signed by", "Left blank for the institution.", ["field", "content"], signing),
    ]
    return tables_html(tables, level)
