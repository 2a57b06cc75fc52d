"""Check a certificate of unlearning: compute again what can be computed, and say of the rest that it is not checked.

``python -m scripts.certificate.verify CERTIFICATE [--public_key …] [--datalist … --identifier_key …] [--recompute …]``
"""

from __future__ import annotations

import json
import secrets
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema

from scripts.certificate import checks, files, ledger_checks, reference, timestamp
from scripts.certificate.checks import FAILS, HOLDS, UNCHECKED, Finding, finding
from scripts.certificate.identifiers import Identifiers, read_key
from scripts.certificate.predicate import SCHEMA_FILE
from scripts.certificate.signature import signature_problem
from scripts.certificate.statement import ENVELOPE, PREDICATE_TYPE, STATEMENT_TYPE, SUBJECT, parse, read_payload
from scripts.run.files import file_sha256

UNSIGNED = "signature"
SHIPPED_WEIGHTS = "models/model.pt"


def verify_certificate(
    certificate: str | Path,
    folder: str | Path | None = None,
    public_key: str | Path | None = None,
    datalist: str | Path | None = None,
    identifier_key: str | Path | None = None,
    weights: Mapping[str, str | Path] | None = None,
    gates: Sequence[Mapping] | None = None,
    ledger: str | Path | None = None,
    timestamp_root: str | Path | None = None,
) -> list[Finding]:
    """Check everything that the files at hand allow.

    Args:
        certificate: Statement or envelope (JSON).
        folder: The audit's folder; by default the certificate's own. Its ``audit.json`` knows where weights and
            records lie; in a shipped bundle the weights are its ``models/model.pt``.
        public_key: Ed25519 public key (PEM) of whom the verifier trusts.
        datalist: Lets the scans' files be checked, and with the identifier key the names of the forget files.
        identifier_key: File with the key of the keyed hashes; None: ``MRI_UNLEARNING_KEY``.
        weights: model -> file, where they lie elsewhere; ``unlearned`` is the certificate's subject.
        gates: The gates that the verifier accepts, in place of the project's own.
        ledger: The ledger that knows the run.
        timestamp_root: Root certificate (PEM) of the authority that stamped the declaration.

    Returns:
        (``holds`` | ``FAILS`` | ``not checked``, what), in reading order.

    Raises:
        FileNotFoundError, ValueError: no certificate, no JSON, or no readable key.
    """
    path = Path(certificate)
    payload, enveloped = read_payload(path)
    statement = parse(payload, path)
    findings = list(_form(statement))
    if findings[0][0] == FAILS:
        return findings
    content = statement["predicate"]
    place = Path(folder) if folder is not None else path.parent
    identifiers, problem = _identifiers(content, identifier_key)
    audit = files.read_audit(place)
    paths = _weights_paths(audit, place, weights)
    findings += _signature(path, payload, enveloped, public_key)
    findings += _subject(statement, paths)
    parts: dict[str, Iterator[Finding]] = {
        "provenance": checks.provenance(content),
        "declaration": checks.declaration(content),
        "time stamp": timestamp.timestamp(content, timestamp_root),
        "figures": checks.figures(content, reference.GATES if gates is None else gates),
        "outputs": files.audit_files(content, place),
        "weights": files.weights(content, paths),
        "records": files.records(content, _record_paths(audit, place), identifiers),
        "identifier key": iter(problem),
        "ledger": ledger_checks.ledger(content, ledger),
        "scans": files.scan_files(content, datalist, identifiers),
        "code": files.code(content),
    }
    for name, part in parts.items():
        findings += _until_nonsense(name, part)
    return findings


def _until_nonsense(name: str, part: Iterator[Finding]) -> Iterator[Finding]:
    """The findings of one part; where a certificate is so wrong that nothing can be computed, that is what fails."""
    try:
        yield from part
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        yield FAILS, f"{name}: nothing can be computed from what is stated: {error!r}"


def _form(statement: Mapping[str, Any]) -> Iterator[Finding]:
    unknown = set(statement) - {"_type", "subject", "predicateType", "predicate"}
    if unknown:
        yield FAILS, f"form: expected nothing beside the statement's four fields, found {', '.join(sorted(unknown))}"
        return
    for name, expected in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        if statement.get(name) != expected:
            yield FAILS, f"form: {name}: expected {expected}, found {statement.get(name)!r}"
            return
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
    problem = jsonschema.exceptions.best_match(validator.iter_errors(statement.get("predicate")))
    if problem is not None:
        yield FAILS, f"schema: {problem.json_path}: {problem.message[:200]}"
        return
    yield HOLDS, f"form: in-toto Statement, predicate of version {statement['predicate']['schema_version']}"


def _signature(path: Path, payload: bytes, enveloped: bool, public_key: str | Path | None) -> Iterator[Finding]:
    envelope = path if enveloped else path.with_name(ENVELOPE)
    if not envelope.is_file():
        verdict = UNCHECKED if public_key is None else FAILS
        yield verdict, f"{UNSIGNED}: there is none: the certificate is unsigned"
        return
    if not enveloped:
        yield finding(read_payload(envelope)[0] == payload, f"{ENVELOPE} holds this certificate and no other")
    if public_key is None:
        yield UNCHECKED, f"{UNSIGNED}: no public key was given: the certificate is unsigned as far as can be told"
        return
    problem = signature_problem(envelope, public_key)
    yield finding(problem is None, f"{UNSIGNED} by the given key" + (f": {problem}" if problem else ""))


def _subject(statement: Mapping[str, Any], paths: Mapping[str, Path]) -> Iterator[Finding]:
    stated = statement["predicate"]["weights"]["unlearned"]["sha256"]
    alone = statement.get("subject") == [{"name": SUBJECT, "digest": {"sha256": stated}}]
    yield finding(alone, "subject is the unlearned weights of the predicate, and nothing else")
    path = paths.get("unlearned")
    if path is None or not path.is_file():
        yield UNCHECKED, "subject: the weights are not here"
    else:
        yield finding(file_sha256(path) == stated, f"subject: {path.name} is what the certificate is about")


def _weights_paths(audit: Mapping | None, place: Path, given: Mapping[str, str | Path] | None) -> dict[str, Path]:
    shipped = place.parent / SHIPPED_WEIGHTS
    found = {"unlearned": shipped} if audit is None and shipped.is_file() else {}
    known = {} if audit is None else audit["inputs"]["weights"]
    found |= {name: place / entry["path"] for name, entry in known.items()}
    return found | {name: Path(path) for name, path in (given or {}).items()}


def _record_paths(audit: Mapping | None, place: Path) -> dict[str, list[Path]]:
    known = {} if audit is None else audit["inputs"]["records"]
    return {name: [place / entry["path"] for entry in entries] for name, entries in known.items()}


def _identifiers(content: Mapping[str, Any], path: str | Path | None) -> tuple[Identifiers | None, list[Finding]]:
    key = read_key(path)
    if key is None:
        return None, []
    identifiers = Identifiers(key)
    if identifiers.key_id == content["identifiers"]["key_id"]:
        return identifiers, []
    return None, [(FAILS, "identifier key: not the one of the certificate")]


def main(  # noqa: PLR0913 each is an option of the command
    certificate: str,
    folder: str | None = None,
    public_key: str | None = None,
    datalist: str | None = None,
    identifier_key: str | None = None,
    weights: dict[str, str] | None = None,
    gates: str | None = None,
    ledger: str | None = None,
    timestamp_root: str | None = None,
    allow_unsigned: bool = False,
    recompute: bool = False,
    sample: float = 1.0,
) -> None:
    """Print one line a check. Exit with 1 where any fails, with 2 where no signature was verified, else with 0.

    Args:
        certificate: The statement or the envelope (JSON).
        folder: The audit's folder, if the certificate lies elsewhere.
        public_key: The Ed25519 public key (PEM) that the signature has to fit.
        datalist: The datalist, to check the scans' files.
        identifier_key: The file with the key of the keyed hashes.
        weights: Model -> file, for instance ``"{'unlearned': 'model.pt'}"``.
        gates: A YAML or JSON file with the gates that you accept, in place of the project's own.
        ledger: The ledger that knows the run; its key lies beside it or in ``MRI_UNLEARNING_KEY``.
        timestamp_root: The root certificate (PEM) of the authority that stamped the declaration.
        allow_unsigned: Exit with 0 without a verified signature, where nothing fails.
        recompute: Reconstruct and evaluate again; needs the datalist and the weights.
        sample: The share of the scans of each cohort to evaluate again, drawn by chance.
    """
    try:
        accepted = None if gates is None else _gates(gates)
        found = verify_certificate(
            certificate, folder, public_key, datalist, identifier_key, weights, accepted, ledger, timestamp_root
        )
        if recompute and found[0][0] != FAILS:
            found += _again(certificate, folder, datalist, weights, sample)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        sys.exit(str(error))
    for verdict, what in found:
        print(f"{verdict + ':':13}{_printable(what)}")
    counts = Counter(verdict for verdict, _ in found)
    unsigned = any(verdict == UNCHECKED and what.startswith(UNSIGNED) for verdict, what in found)
    print(f"\n{counts[HOLDS]} checks hold, {counts[FAILS]} fail, {counts[UNCHECKED]} were not made (see above).")
    if unsigned:
        print("The certificate is unsigned: whoever wrote it could have written anything that fits together.")
    print("There is no formal guarantee of removal; see the certificate's statement and limits.")
    if counts[FAILS] or (unsigned and not allow_unsigned):
        sys.exit(1 if counts[FAILS] else 2)


def _printable(text: str) -> str:
    """A text whose control characters cannot erase or imitate other lines on a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _again(
    certificate: str,
    folder: str | None,
    datalist: str | None,
    weights: Mapping[str, str] | None,
    sample: float,
) -> list[Finding]:
    from scripts.certificate.recompute import recompute

    if datalist is None:
        raise ValueError("recompute: expected the datalist and the weights, found no 'datalist'")
    place = Path(folder) if folder is not None else Path(certificate).parent
    content = parse(read_payload(certificate)[0], certificate)["predicate"]
    paths = _weights_paths(files.read_audit(place), place, weights)
    paths = {name: path for name, path in paths.items() if path.is_file() and name in content["weights"]}
    if "unlearned" not in paths:
        raise ValueError("recompute: 'weights': expected the file of the unlearned weights, found none")
    return list(recompute(content, datalist, paths, sample, secrets.randbits(64)))


def _gates(path: str) -> list[dict[str, Any]]:
    import yaml

    from scripts.audit.gates import check_gates

    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    gates = content.get("gates") if isinstance(content, dict) else content
    if not isinstance(gates, list):
        raise ValueError(f"{path}: 'gates': expected a list, found {type(gates).__name__}")
    check_gates(gates)
    return gates


if __name__ == "__main__":
    import fire

    fire.Fire(main)
