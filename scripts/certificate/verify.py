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
from scripts.certificate import again, checks, files, timestamp
from scripts.certificate.checks import FAILS, HOLDS, UNCHECKED, Finding, finding
from scripts.certificate.identifiers import Identifiers, read_key
from scripts.certificate.predicate import SCHEMA_FILE
from scripts.certificate.signature import signature_problem
from scripts.certificate.statement import ENVELOPE, NAME, PREDICATE_TYPE, STATEMENT_TYPE, SUBJECT, parse, read_payload
from scripts.requests import ledger_of
from scripts.run.files import file_sha256
from scripts.run.source import RecordedRun

UNSIGNED, SUBJECT_MISSING = "signature", "subject: the weights are not here"


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
    if audit is None and (place.parent / "models").is_dir():
        findings += _until_nonsense("subject", files.models(content, place.parent))
    parts: dict[str, Iterator[Finding]] = {
        "provenance": checks.provenance(content),
        "declaration": checks.declaration(content),
        "time stamp": timestamp.timestamp(content, timestamp_root),
        "figures": checks.figures(content, gates),
        "outputs": files.audit_files(content, place),
        "weights": files.weights(content, paths),
        "records": files.records(content, _record_paths(audit, place), identifiers),
        "identifier key": iter(problem),
        "ledger": files.ledger(content, ledger),
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
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
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


def _subject(statement: Mapping[str, Any], paths: Mapping[str, Path]) -> Iterator[Finding]:
    stated = statement["predicate"]["weights"]["unlearned"]["sha256"]
    alone = statement.get("subject") == [{"name": SUBJECT, "digest": {"sha256": stated}}]
    yield finding(alone, "subject is the unlearned weights of the predicate, and nothing else")
    path = paths.get("unlearned")
    if path is None or not path.is_file():
        yield UNCHECKED, SUBJECT_MISSING
    else:
        yield finding(file_sha256(path) == stated, f"subject: {path.name} is what the certificate is about")


def _weights_paths(audit: Mapping | None, place: Path, given: Mapping[str, str | Path] | None) -> dict[str, Path]:
    shipped = place.parent / "models" / files.SUBJECTS[0]
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
    certificate: str | None = None,
    run: str | None = None,
    folder: str | None = None,
    public_key: str | None = None,
    datalist: str | None = None,
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
        run: The folder of the run, which says where datalist and ledger are.
        folder: The audit's folder, if the certificate lies elsewhere.
        public_key: The Ed25519 public key (PEM) that the signature has to fit.
        datalist: The datalist, to check the scans' files.
        identifier_key: The file with the key of the keyed hashes.
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
            datalist, ledger = datalist or _datalist(run), ledger or ledger_of(run)
        certificate = certificate or f"{run}/audit/{NAME}"
        accepted = None if gates is None else project_gates(gates)
        found = verify_certificate(
            certificate, folder, public_key, datalist, identifier_key, weights, accepted, ledger, timestamp_root
        )
        if (rerun or replay) and found[0][0] != FAILS:
            found += _again(certificate, folder, run, rerun, replay)
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
    doubtful = unsigned or (UNCHECKED, SUBJECT_MISSING) in found
    if counts[FAILS] or (doubtful and not allow_unsigned):
        sys.exit(1 if counts[FAILS] else 2)


def _datalist(run: str) -> str | None:
    """The datalist of a run, if it is still there."""
    try:
        path = RecordedRun.open(run).value("datalist")
    except FileNotFoundError:
        return None
    return path if path is not None and Path(path).is_file() else None


def _printable(text: str) -> str:
    """A text whose control characters cannot erase or imitate other lines on a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _again(certificate: str, folder: str | None, run: str | None, rerun: bool, replay: bool) -> list[Finding]:
    if run is None:
        raise ValueError("verify: 'rerun', 'replay': expected --run FOLDER beside, found none")
    place = Path(folder) if folder is not None else Path(certificate).parent
    content = parse(read_payload(certificate)[0], certificate)["predicate"]
    unlearned, stated = Path(run, "unlearned.pt"), content["weights"]["unlearned"]["sha256"]
    if not unlearned.is_file() or file_sha256(unlearned) != stated:
        return [(FAILS, f"run: {run} does not hold the certified weights")]
    found = list(again.rerun(content, run, files.read_audit(place))) if rerun else []
    return found + (list(again.replay(run)) if replay else [])


if __name__ == "__main__":
    import fire

    fire.Fire(main)
