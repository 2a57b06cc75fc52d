"""Check a certificate of unlearning: recompute what can be recomputed from the files, and say what holds.

``python -m scripts.certificate.verify CERTIFICATE [--folder …] [--public_key …] [--datalist … --identifier_key …]``
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import jsonschema

from scripts.audit.gates import judge, overall
from scripts.audit.provenance import doubts, provenance_problems, record_facts
from scripts.certificate.certificate import FIGURES, SCHEMA_FILE
from scripts.certificate.chain import broken, content_sha256
from scripts.certificate.identifiers import Identifiers, read_key
from scripts.certificate.signature import SUFFIX, signature_holds
from scripts.files import file_sha256
from scripts.training.record import environment

HOLDS, FAILS, UNCHECKED = "holds", "FAILS", "not checked"
Finding = tuple[str, str]


def verify_certificate(
    certificate: str | Path,
    folder: str | Path | None = None,
    public_key: str | Path | None = None,
    datalist: str | Path | None = None,
    identifier_key: str | Path | None = None,
) -> list[Finding]:
    """Recompute everything that the files at hand allow.

    Args:
        certificate: the JSON file.
        folder: where the files lie; their certified paths, else their names anywhere in it, are tried. By default the
            certificate's own folder.
        public_key: Ed25519 public key (PEM); the signature is then required in ``<certificate>.sig``.
        datalist: lets the forget files be checked, together with the identifier key.
        identifier_key: file with the key of the keyed hashes; None: ``MRI_UNLEARNING_KEY``.

    Returns:
        (``holds`` | ``FAILS`` | ``not checked``, what), in reading order. Records, outputs and unlearned weights must
        be there; other weights, which may have been erased, are checked only where they are.

    Raises:
        FileNotFoundError, ValueError: no certificate, no JSON, or no readable key.
    """
    path = Path(certificate)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such certificate")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a JSON certificate, found text that does not parse: {error}") from error
    findings = list(_form(content))
    if findings[0][0] == FAILS:
        return findings
    place = Path(folder) if folder is not None else path.parent
    findings += _signature(path, public_key)
    findings += _chain(content["records"])
    findings += _files(content, place)
    findings += _cross_checks(content, place)
    findings += _forget_files(content, datalist, identifier_key)
    return findings


def _form(content) -> Iterator[Finding]:
    problems = list(jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).iter_errors(content))
    if problems:
        yield FAILS, f"schema: {problems[0].json_path}: {problems[0].message[:200]}"
        return
    yield HOLDS, f"schema {content['schema_version']}"
    body = {key: value for key, value in content.items() if key not in ("content_sha256",)}
    body["signed_by"] = dict.fromkeys(body["signed_by"], "")  # filled in by hand afterwards
    yield _finding(content_sha256(body) == content["content_sha256"], "the certificate's own hash")


def _signature(path: Path, public_key: str | Path | None) -> Iterator[Finding]:
    signed = Path(f"{path}{SUFFIX}").is_file()
    if public_key is None:
        yield UNCHECKED, "signature: " + ("no public key was given" if signed else "there is none")
    elif not signed:
        yield FAILS, f"signature: no file {path}{SUFFIX}"
    else:
        yield _finding(signature_holds(path, public_key), "signature by the given key")


def _chain(records: list) -> Iterator[Finding]:
    wrong = broken(records)
    yield _finding(not wrong, f"hash chain over {len(records)} records" + (f", broken at {wrong}" if wrong else ""))


def _files(content: Mapping, place: Path) -> Iterator[Finding]:
    groups = [
        *((f"record of {entry['kind']}", entry, True) for entry in content["records"]),
        *((f"weights {name}", entry, name == "unlearned") for name, entry in content["weights"].items()),
        *(("output", entry, True) for entry in content["outputs"]),
    ]
    for kind, entry, required in groups:
        found = _find(entry, place)
        if found is None:
            yield (FAILS if required else UNCHECKED), f"{kind} {entry['file']}: no such file"
        else:
            yield _finding(file_sha256(found) == entry["sha256"], f"{kind} {entry['file']}: SHA-256")


def _find(entry: Mapping, place: Path) -> Path | None:
    """The file at its certified path, else one of its name under the folder, an unchanged one if there is any."""
    if (place / entry["file"]).is_file():
        return place / entry["file"]
    named = [path for path in sorted(place.rglob(Path(entry["file"]).name)) if path.is_file()]
    return next((path for path in named if file_sha256(path) == entry["sha256"]), named[0] if named else None)


def _cross_checks(content: Mapping, place: Path) -> Iterator[Finding]:
    """Whether the certificate says what its records say, and whether its verdict follows from its measures."""
    stated = content["audit"]
    gates = [judge(gate, stated["measures"]) for gate in stated["declared"]["gates"]]
    yield _finding(gates == stated["gates"], "gates follow from the measures and the declared margins")
    provenance = stated["provenance"]
    problems = provenance_problems(provenance["runs"], provenance["audit"], content["weights"])
    yield _finding(problems == provenance["problems"], "origin of the oracle and of the audit's data as stated")
    yield _finding(
        not problems["run"], "; ".join(["audit and run agree on network, mask, data and weights", *problems["run"]])
    )
    unproven = doubts(problems)
    seen = any(gate["verdict"] == "fail" for gate in stated["control"]["gates"])
    same = seen == stated["control"]["sees_remembering"] and overall(gates, seen, unproven) == stated["verdict"]
    yield _finding(same, f"verdict follows from gates and control: {stated['verdict']['verdict']}")
    records, known = {}, {}
    for entry in content["records"]:
        found = _find(entry, place)
        if found is not None and file_sha256(found) == entry["sha256"]:
            known[entry["sha256"]] = records[entry["kind"]] = json.loads(found.read_text(encoding="utf-8"))
    for name, runs in provenance["runs"].items():
        for facts in runs:
            if facts["record"] in known:
                same = record_facts(known[facts["record"]], facts["record"]) == facts
                yield _finding(same, f"origin of {name} is what its record says")
            else:
                yield UNCHECKED, f"origin of {name}: its record is not here"
    if "audit" in records:
        same = all(records["audit"][name] == stated[name] for name in FIGURES)
        yield _finding(same, "gates, verdict and figures are those of the audit's record")
        hashes = {name: entry["sha256"] for name, entry in records["audit"]["inputs"]["weights"].items()}
        yield _finding(
            hashes == {n: e["sha256"] for n, e in content["weights"].items()}, "weights are the audited ones"
        )
        digest = content_sha256(records["audit"]["configuration"])
        yield _finding(digest == stated["configuration_sha256"], "configuration of the audit")
    if "unlearned" in records:
        record, weights = records["unlearned"], content["weights"]
        yield _finding(record["weights_out"]["sha256"] == weights["unlearned"]["sha256"], "weights after unlearning")
        before = record["weights_in"] or {}
        yield _finding(before.get("sha256") == weights["G"]["sha256"], "weights before unlearning")
        digest = content_sha256(record["configuration"])
        yield _finding(digest == content["method"]["configuration_sha256"], "configuration of the unlearning")
        files = [entry["sha256"] for entry in record["data"]["forget"]["volumes"]]
        yield _finding(files == [e["sha256"] for e in content["request"]["forget_files"]], "forget files of the record")
    same_code = environment()["code_sha256"] == stated["code_sha256"]
    yield (HOLDS, "code is the installed one") if same_code else (UNCHECKED, "code: another version is installed here")


def _forget_files(content: Mapping, datalist, identifier_key) -> Iterator[Finding]:
    if datalist is None:
        yield UNCHECKED, "forget files: no datalist was given"
        return
    yield _finding(file_sha256(datalist) == content["datalist"]["sha256"], "datalist: SHA-256")
    key = read_key(identifier_key)
    if key is None:
        yield UNCHECKED, "forget files: no identifier key was given"
        return
    identifiers = Identifiers(key)
    if identifiers.key_id != content["identifiers"]["key_id"]:
        yield FAILS, "forget files: the key is not the one of the certificate"
        return
    listed = json.loads(Path(datalist).read_text(encoding="utf-8")).get("training", [])
    names = {identifiers.hash("file", entry["kspace"]): Path(datalist).parent / entry["kspace"] for entry in listed}
    for entry in content["request"]["forget_files"]:
        found = names.get(entry["file"])
        if found is None:
            yield FAILS, f"forget file {entry['file'][:16]}…: not in the datalist"
        elif not found.is_file():
            yield UNCHECKED, f"forget file {entry['file'][:16]}…: no longer there"
        else:
            yield _finding(file_sha256(found) == entry["sha256"], f"forget file {entry['file'][:16]}…: SHA-256")


def _finding(holds: bool, what: str) -> Finding:
    return (HOLDS if holds else FAILS), what


def main(certificate: str, folder=None, public_key=None, datalist=None, identifier_key=None) -> None:
    """Print one line a finding; exit with 1 where anything fails.

    Args:
        certificate: the JSON file.
        folder: where the files lie, if not beside the certificate.
        public_key: Ed25519 public key (PEM) that the signature has to fit.
        datalist: to check the forget files, with identifier_key.
        identifier_key: file with the key of the keyed hashes.
    """
    try:
        findings = verify_certificate(certificate, folder, public_key, datalist, identifier_key)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    for verdict, what in findings:
        print(f"{verdict + ':':13}{what}")
    failed = sum(verdict == FAILS for verdict, _ in findings)
    print(f"\n{failed} of {len(findings)} checks fail." if failed else "\nEverything that could be checked holds.")
    print("There is no formal guarantee of removal; see the certificate's statement and limits.")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    import fire

    fire.Fire(main)
