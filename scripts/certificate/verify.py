"""Check a certificate of unlearning: hashes, signature, form, and gates judged again from the measures that it states.

``python -m scripts.certificate.verify --run FOLDER [--rerun] [--replay] [--public_key …]``, or with the certificate in
place of ``--run``. ``--rerun`` audits the run again, ``--replay`` unlearns again; what was not checked is said.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema

from scripts.audit.gates import project_gates
from scripts.certificate import again, checks, timestamp
from scripts.certificate.checks import FAILS, HOLDS, UNCHECKED, Finding, finding, read_json
from scripts.certificate.predicate import SCHEMA_FILE
from scripts.certificate.signature import (
    ENVELOPE,
    NAME,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    SUBJECT,
    parse,
    read_payload,
    signature_problem,
)
from scripts.requests import ledger_of
from scripts.run.files import file_sha256

UNSIGNED, SUBJECT_MISSING = "signature", "subject: the weights are not here"


def verify_certificate(
    certificate: str | Path,
    folder: str | Path | None = None,
    public_key: str | Path | None = None,
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
    shipped, known = place.parent / "models" / checks.SUBJECTS[0], read_json(place / "audit.json").get("inputs")
    paths = {"unlearned": shipped} if known is None and shipped.is_file() else {}
    try:
        paths |= {name: place / entry["path"] for name, entry in (known or {}).get("weights", {}).items()}
    except (AttributeError, LookupError, TypeError) as error:
        findings.append((FAILS, f"audit.json: 'inputs': expected the weights of each model, found {error!r}"))
    paths |= {name: Path(path) for name, path in (weights or {}).items()}
    findings += _signature(path, payload, enveloped, public_key)
    findings += _subject(statement, paths.get("unlearned"))
    parts: dict[str, Iterator[Finding]] = {
        "provenance": checks.provenance(content),
        "declaration": checks.declaration(content),
        "time stamp": timestamp.timestamp(content, timestamp_root),
        "figures": checks.figures(content, gates),
        "files": checks.files(content, place, paths),
        "ledger": checks.ledger(content, ledger),
    }
    if known is None and (place.parent / "models").is_dir():
        parts["subject"] = checks.models(content, place.parent)
    for name, part in parts.items():
        findings += _until_nonsense(name, part)
    return findings


def _until_nonsense(name: str, part: Iterator[Finding]) -> Iterator[Finding]:
    """The findings of one part; where a certificate is so wrong that nothing can be computed, that is what fails."""
    try:
        yield from part
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
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
    try:
        problem = jsonschema.exceptions.best_match(validator.iter_errors(statement.get("predicate")))
    except RecursionError:
        yield FAILS, "schema: expected a document of ordinary depth"
        return
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


def _subject(statement: Mapping[str, Any], path: Path | None) -> Iterator[Finding]:
    stated = statement["predicate"]["weights"]["unlearned"]["sha256"]
    alone = statement.get("subject") == [{"name": SUBJECT, "digest": {"sha256": stated}}]
    yield finding(alone, "subject is the unlearned weights of the predicate, and nothing else")
    if path is None or not path.is_file():
        yield UNCHECKED, SUBJECT_MISSING
    else:
        yield finding(file_sha256(path) == stated, f"subject: {path.name} is what the certificate is about")


def main(  # noqa: PLR0913 each is an option of the command
    certificate: str | None = None,
    run: str | None = None,
    folder: str | None = None,
    public_key: str | None = None,
    identifier_key: str | None = None,
    weights: dict[str, str] | None = None,
    gates: str | None = None,
    ledger: str | None = None,
    timestamp_root: str | None = None,
    allow_unsigned: bool = False,
    rerun: bool = False,
    replay: bool = False,
) -> None:
    """Print one line a check. Exit with 1 where any fails, with 2 where no signature was verified, else with 0.

    Args:
        certificate: The statement or the envelope (JSON); by default that of the audit in the run's folder.
        run: The folder of the run, which says where the ledger is.
        folder: The audit's folder, if the certificate lies elsewhere.
        public_key: The Ed25519 public key (PEM) that the signature has to fit.
        identifier_key: The file with the key of the keyed hashes, for a rerun.
        weights: Model -> file, for instance ``"{'unlearned': 'model.pt'}"``.
        gates: A YAML or JSON file with the gates that you accept, in place of the project's own.
        ledger: The ledger that knows the run; its key lies beside it or in ``MRI_UNLEARNING_KEY``.
        timestamp_root: The root certificate (PEM) of the authority that stamped the declaration.
        allow_unsigned: Exit with 0 without a verified signature or the weights, where nothing fails.
        rerun: Audit the run again and compare; needs ``run`` with its data and weights.
        replay: Unlearn again and compare the bits; needs ``run`` with the retained scans and the prior.
    """
    try:
        if certificate is None and run is None:
            raise ValueError("verify: expected --run FOLDER or the file of a certificate, found neither")
        if run is not None:
            ledger = ledger or ledger_of(run)
        certificate = certificate or f"{run}/audit/{NAME}"
        accepted = None if gates is None else project_gates(gates)
        found = verify_certificate(certificate, folder, public_key, weights, accepted, ledger, timestamp_root)
        if (rerun or replay) and found[0][0] != FAILS:
            found += _again(certificate, folder, run, rerun, replay, identifier_key)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        sys.exit(str(error))
    for verdict, what in found:  # control characters could erase or imitate other lines on a terminal
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in what)
        print(f"{verdict + ':':13}{text}")
    counts = Counter(verdict for verdict, _ in found)
    unsigned = any(verdict == UNCHECKED and what.startswith(UNSIGNED) for verdict, what in found)
    print(f"\n{counts[HOLDS]} checks hold, {counts[FAILS]} fail, {counts[UNCHECKED]} were not made (see above).")
    if unsigned:
        print("The certificate is unsigned: whoever wrote it could have written anything that fits together.")
    print("There is no formal guarantee of removal; see the certificate's statement and limits.")
    doubtful = unsigned or any(verdict == UNCHECKED and what.startswith("subject:") for verdict, what in found)
    if counts[FAILS] or (doubtful and not allow_unsigned):
        sys.exit(1 if counts[FAILS] else 2)


def _again(
    certificate: str, folder: str | None, run: str | None, rerun: bool, replay: bool, key: str | None
) -> list[Finding]:
    if run is None:
        raise ValueError("verify: 'rerun', 'replay': expected --run FOLDER beside, found none")
    content = parse(read_payload(certificate)[0], certificate)["predicate"]
    unlearned = Path(run, "unlearned.pt")
    if not unlearned.is_file() or file_sha256(unlearned) != content["weights"]["unlearned"]["sha256"]:
        return [(FAILS, f"run: {run} does not hold the certified weights")]
    place = Path(folder) if folder is not None else Path(certificate).parent
    found = list(again.rerun(content, run, place, key)) if rerun else []
    return found + (list(again.replay(run)) if replay else [])


if __name__ == "__main__":
    from scripts.run.program import program

    program(main)
