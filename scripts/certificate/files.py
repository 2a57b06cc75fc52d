"""A certificate beside the files it was made from: whether they are there, unchanged, and say what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from scripts.audit.provenance import record_facts, weights_hashes
from scripts.certificate import predicate
from scripts.certificate.checks import FAILS, UNCHECKED, Finding, finding, same
from scripts.certificate.identifiers import DIGEST, Identifiers
from scripts.certificate.statement import Unreadable, parse, read_bounded
from scripts.networks import load_weights
from scripts.networks.from_record import network_from_record
from scripts.requests.ledger import Ledger
from scripts.run.files import file_sha256, json_sha256
from scripts.run.keys import read_key
from scripts.training.record import environment

SUBJECTS = ("model.pt", "model.ts", "model.pt2")
REDACTED = re.compile(r"\[[0-9a-f]{16}\]")


def audit_files(content: Mapping[str, Any], folder: Path) -> Iterator[Finding]:
    """The audit's outputs in a folder, and what its record and its results say."""
    for name, sha256 in content["outputs"].items():
        if not (folder / name).is_file():
            yield UNCHECKED, f"output {name}: not here"
        else:
            yield finding(file_sha256(folder / name) == sha256, f"output {name}: SHA-256")
    audit = read_audit(folder)
    if audit is not None:
        stated = {name: content["audit"][name] for name in predicate.FIGURES}
        yield finding(_said(stated, {name: audit.get(name) for name in stated}), "figures are those of audit.json")
        digest = json_sha256(audit["configuration"])
        yield finding(digest == content["audit"]["configuration_sha256"], "configuration of the audit")
        yield from _inputs(content, audit)


def _inputs(content: Mapping[str, Any], audit: Mapping[str, Any]) -> Iterator[Finding]:
    """What the audit's record says went into it, beside what the certificate says."""
    inputs, seen = audit["inputs"], content["oracle_seen"]["used_to_choose_settings"]
    named = {
        name: {key: entry[key] for key in ("sha256", "tensors_sha256")} for name, entry in inputs["weights"].items()
    }
    runs = [{"model": name, "sha256": entry["sha256"]} for name, part in inputs["records"].items() for entry in part]
    ran = {"device": audit["device"], "code_sha256": audit["environment"]["code_sha256"]}
    yield finding(content["weights"] == named, "weights of each model are those of audit.json")
    yield finding(content["records"] == runs, "records of the runs are those of audit.json")
    yield finding(seen is audit["oracle_tuned"], "oracle used to choose settings as audit.json says")
    yield finding(all(content["audit"][name] == value for name, value in ran.items()), "device and code of audit.json")
    evaluated = content["audit"]["provenance"]["audit"]["evaluated"]
    files = sorted(sha256 for part in evaluated.values() for sha256 in part)
    yield finding(files == sorted(inputs["scans"].values()), "files of the scans are those of audit.json")


def weights(content: Mapping[str, Any], paths: Mapping[str, Path]) -> Iterator[Finding]:
    """Files of weights, by model: whether they are the certified ones."""
    for name, entry in content["weights"].items():
        path = paths.get(name)
        if path is None or not path.is_file():
            yield UNCHECKED, f"weights {name}: not here"
            continue
        known = file_sha256(path) == entry["sha256"]
        yield finding(known, f"weights {name}: SHA-256")
        if known:
            same_tensors = weights_hashes(path)["tensors_sha256"] == entry["tensors_sha256"]
            yield finding(same_tensors, f"weights {name}: SHA-256 of the tensors")


def records(
    content: Mapping[str, Any], paths: Mapping[str, list[Path]], identifiers: Identifiers | None
) -> Iterator[Finding]:
    """Records of the runs, by model, the last run first: what they say of the origin and of the unlearning."""
    stated = content["audit"]["provenance"]["runs"]
    for name, runs in stated.items():
        for index, facts in enumerate(runs):
            path = dict(enumerate(paths.get(name, []))).get(index)
            what = f"record of {name}" + (f", {index} before the last run" if index else "")
            if path is None or not path.is_file():
                yield UNCHECKED, f"{what}: not here"
                continue
            yield finding(file_sha256(path) == facts["record"], f"{what} {path.name}: SHA-256")
            record = _json(path)
            yield finding(record_facts(record, facts["record"]) == facts, f"{what}: origin as certified")
            if name == "unlearned" and not index:
                yield from _run(content, record, identifiers)


def _run(content: Mapping[str, Any], record: Mapping[str, Any], identifiers: Identifiers | None) -> Iterator[Finding]:
    """What the unlearning run's record says, beside what the certificate says of it."""
    try:
        for name, value in predicate.method(record).items():
            yield finding(_said(content["method"][name], value), f"{name.replace('_', ' ')} of the run is its record's")
        known = identifiers or Identifiers(b"\0" * 16)
        subset = predicate.retain_subset(record, known)
        for name in ("rule", "fraction", "seed", "volumes", "slices"):
            yield finding(_said(content["retain_subset"][name], subset[name]), f"retain subset: {name} is its record's")
        forget = [entry["sha256"] for entry in record["forgotten"]]
        yield finding(forget == [e["sha256"] for e in content["forget_files"]], "forget files are its record's")
        seen = record.get("oracle_weights") is not None
        yield finding(
            content["oracle_seen"]["compared_with_after_unlearning"] == seen, "oracle seen as its record says"
        )
        if identifiers is None:
            yield UNCHECKED, "request, reason and retain files: no identifier key was given"
            return
        request = predicate.request_entry(record["forget_request"], identifiers)
        for name, value in request.items():
            yield finding(_said(content["request"][name], value), f"request: {name.replace('_', ' ')} is its record's")
        yield finding(content["retain_subset"]["files"] == subset["files"], "retain files are its record's")
    except (KeyError, TypeError) as error:
        yield finding(False, f"record of unlearned: expected the record of unlearn, found none of {error}")


def code(content: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the code that audited is the code that verifies."""
    installed = environment()["code_sha256"] == content["audit"]["code_sha256"]
    yield (
        finding(True, "code is the installed one")
        if installed
        else (
            UNCHECKED,
            "code of the audit: another version, or only a part of it, is installed here",
        )
    )


def scan_files(
    content: Mapping[str, Any], datalist: str | Path | None, identifiers: Identifiers | None
) -> Iterator[Finding]:
    """The scans' own files, by the datalist, and the forget files by name, with the identifier key."""
    if datalist is None:
        yield UNCHECKED, "files of the scans: no datalist was given"
        return
    yield finding(file_sha256(datalist) == content["datalist"]["sha256"], "datalist: SHA-256")
    sections = _json(Path(datalist))
    entries = [e for name in ("training", "test") for e in sections.get(name, [])]
    files = {entry["kspace"]: Path(datalist).parent / entry["kspace"] for entry in entries}
    found = {file_sha256(path) for path in files.values() if path.is_file()}
    gone = sum(not path.is_file() for path in files.values())
    for cohort, hashes in content["audit"]["provenance"]["audit"]["evaluated"].items():
        missing = set(hashes) - found
        if missing and gone:
            yield UNCHECKED, f"files of {cohort}: {len(missing)} of {len(hashes)} were not found, {gone} are gone"
        else:
            yield finding(not missing, f"files of {cohort}: SHA-256 of {len(hashes)}")
    if identifiers is None:
        yield UNCHECKED, "names of the forget files: no identifier key was given"
        return
    names = {identifiers.hash("file", name): path for name, path in files.items()}
    for entry in content["forget_files"]:
        path, what = names.get(entry["file"]), f"forget file {entry['file'][:16]}…"
        if path is None:
            yield finding(False, f"{what}: not in the datalist")
        elif not path.is_file():
            yield UNCHECKED, f"{what}: no longer there"
        else:
            yield finding(file_sha256(path) == entry["sha256"], f"{what}: SHA-256")


def read_audit(folder: Path) -> dict[str, Any] | None:
    """``audit.json`` of a folder, which knows where weights and records lie; None without a readable one."""
    audit = _json(folder / "audit.json")
    return audit if {"inputs", "configuration"} <= set(audit) else None


def _said(stated: Any, found: Any) -> bool:
    """Whether a certificate says the same, but for identifiers that it leaves out."""
    if isinstance(stated, str) and isinstance(found, str) and not DIGEST.fullmatch(found):
        return _holds(REDACTED.split(stated), found)
    if isinstance(stated, Mapping) and isinstance(found, Mapping):
        return _said(list(stated), list(found)) and _said(list(stated.values()), list(found.values()))
    if isinstance(stated, list) and isinstance(found, list):
        return len(stated) == len(found) and all(_said(a, b) for a, b in zip(stated, found, strict=True))
    return same(stated, found)


def _holds(parts: list[str], text: str) -> bool:
    """Whether a text is these parts in order, with something between each two."""
    first, *others = parts
    if not others:
        return first == text
    if not text.startswith(first) or not text.endswith(others[-1]):
        return False
    place, end = len(first), len(text) - len(others[-1])
    for part in others[:-1]:
        place = text.find(part, place + 1, end)
        if place < 0:
            return False
        place += len(part)
    return place < end


def _json(path: Path) -> dict[str, Any]:
    try:
        return parse(read_bounded(path), path)
    except (OSError, Unreadable):
        return {}


def ledger(content: Mapping[str, Any], path: str | Path | None) -> Iterator[Finding]:
    """What a ledger says of the certified run and of its audits.

    Args:
        content: The predicate.
        path: The ledger; its key lies beside it or in ``MRI_UNLEARNING_KEY``. None: nothing is checked.

    Raises:
        FileNotFoundError: no such file.
    """
    if path is None:
        yield UNCHECKED, "ledger: none was given; it would show the run, and every audit of these weights"
        return
    if not Path(path).is_file():
        raise FileNotFoundError(f"'ledger': no such file: {path}")
    beside = Path(path).with_suffix(".key")
    if read_key(beside if beside.is_file() else None) is None:
        yield UNCHECKED, "ledger: its key is not here"
        return
    try:
        known = Ledger(path)
    except ValueError as error:
        yield FAILS, f"ledger: {error}"
        return
    yield from _ledger_run(content, known)
    yield from _audits(content, known)


def _ledger_run(content: Mapping[str, Any], known: Ledger) -> Iterator[Finding]:
    weights, record = (
        content["weights"]["unlearned"]["sha256"],
        content["audit"]["provenance"]["runs"]["unlearned"][0]["record"],
    )
    ends = [line for line in known.lines if line["event"] == "erased" and line["weights_out"] == weights]
    if not ends:
        yield FAILS, "ledger: it knows no run that made these weights"
        return
    yield finding(ends[-1]["record_sha256"] == record, "ledger: its run has the certified record")
    begun = known.lines[ends[-1]["begun"] - 1]
    erased = sorted(scan["sha256"] for scan in begun["scans"])
    forgotten = sorted(entry["sha256"] for entry in content["forget_files"])
    yield finding(erased == forgotten, "ledger: its run erased the certified forget files")
    stated = content["method"]["ledger"]
    same = stated is not None and known.line_hash(stated["line"]) == stated["line_sha256"]
    yield finding(same, "ledger: the run's line is the one that the run's record holds")


def _audits(content: Mapping[str, Any], known: Ledger) -> Iterator[Finding]:
    weights, record = content["weights"]["unlearned"]["sha256"], content["outputs"]["audit.json"]
    audits = [line for line in known.lines if line["event"] == "audited" and line["weights"] == weights]
    own = [line for line in audits if line["audit_sha256"] == record]
    yield finding(bool(own), "ledger: it knows the certified audit")
    others = [line["verdict"] for line in audits if line["audit_sha256"] != record]
    if others:
        yield UNCHECKED, f"ledger: {len(others)} other audits of these weights, with the verdicts {', '.join(others)}"


def models(content: Mapping[str, Any], bundle: Path) -> Iterator[Finding]:
    """Everything in a shipped bundle that can run: the certified weights, and programs that give the same images.

    Args:
        content: The predicate.
        bundle: The bundle's folder, with ``models``.
    """
    there = {path.name: path for path in sorted((bundle / "models").iterdir())}
    unknown = sorted(set(there) - set(SUBJECTS))
    yield finding(not unknown, "; ".join(["models holds the certified forms alone", *unknown]))
    missing = sorted(set(SUBJECTS) - set(there))
    if missing:
        yield FAILS, f"subject: expected {', '.join(SUBJECTS)} in models, found no {', '.join(missing)}"
        return
    weights, *programs = SUBJECTS
    yield finding(
        file_sha256(there[weights]) == content["weights"]["unlearned"]["sha256"],
        f"subject: {weights} is what the certificate is about",
    )
    config = dict(_json(bundle / "configs" / "inference.json").get("network_def") or {})
    config.pop("_requires_", None)  # an order of MONAI's parser, which builds nothing
    network = load_weights(network_from_record(config, "inference.json: 'network_def'"), there[weights]).eval()
    kspace = torch.randn(1, 2, 96, 88, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(kspace)
        for name in programs:
            load = torch.jit.load if name.endswith(".ts") else torch.export.load
            program: Any = load(there[name])
            image = (program if name.endswith(".ts") else program.module())(kspace)
            alike = image.shape == expected.shape and torch.allclose(image, expected, rtol=1e-4, atol=1e-6)
            yield finding(alike, f"subject: {name} gives the images of {weights}")
