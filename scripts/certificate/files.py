"""A certificate beside the files it was made from: whether they are there, unchanged, and say what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from scripts.audit.provenance import record_facts, weights_hashes
from scripts.certificate import predicate
from scripts.certificate.checks import UNCHECKED, Finding, finding, same
from scripts.certificate.identifiers import DIGEST, Identifiers
from scripts.certificate.scans import results_of
from scripts.certificate.statement import Unreadable, parse
from scripts.evaluation.metrics import METRICS
from scripts.evaluation.results import read_results
from scripts.run.files import file_sha256, json_sha256
from scripts.training.record import environment

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
    if (folder / "metrics.csv").is_file():
        yield finding(_same_results(content, folder / "metrics.csv"), "results of each scan are those of metrics.csv")


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
    files = sorted(scan["sha256"] for scan in content["scans"])
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
        forget = [entry["sha256"] for entry in record["data"]["forget"]["volumes"]]
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
            "code of the audit: another version is installed here",
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
    for scan in content["scans"]:
        if scan["sha256"] in found or not gone:
            yield finding(scan["sha256"] in found, f"file of {scan['scan']} ({scan['cohort']}): SHA-256")
        else:
            yield UNCHECKED, f"file of {scan['scan']} ({scan['cohort']}): no such file, {gone} of the datalist are gone"
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


def _same_results(content: Mapping[str, Any], path: Path) -> bool:
    """Whether ``metrics.csv`` has the same results, and the same scans of the same patients under their names."""
    try:
        rows, ours = (
            sorted(part, key=lambda r: (r.volume, r.model))
            for part in (read_results(path), results_of(content["scans"]))
        )
        pairs = list(zip(rows, ours, strict=True))
    except (KeyError, ValueError, TypeError):
        return False
    compared = ("model", "cohort", "slices", *METRICS)
    same_values = all(getattr(a, name) == getattr(b, name) for a, b in pairs for name in compared)
    names = {(a.volume, b.volume) for a, b in pairs}
    patients = {(a.patient_id, b.patient_id) for a, b in pairs}
    return same_values and _one_to_one(names) and _one_to_one(patients)


def _one_to_one(pairs: Set[tuple[str, str]]) -> bool:
    return all(len(set(side)) == len(pairs) for side in zip(*pairs, strict=True))


def _said(stated: Any, found: Any) -> bool:
    """Whether a certificate says the same, but for identifiers that it leaves out."""
    if isinstance(stated, str) and isinstance(found, str) and not DIGEST.fullmatch(found):
        return re.fullmatch(".+".join(map(re.escape, REDACTED.split(stated))), found, re.S) is not None
    if isinstance(stated, Mapping) and isinstance(found, Mapping):
        return _said(list(stated), list(found)) and _said(list(stated.values()), list(found.values()))
    if isinstance(stated, list) and isinstance(found, list):
        return len(stated) == len(found) and all(_said(a, b) for a, b in zip(stated, found, strict=True))
    return same(stated, found)


def _json(path: Path) -> dict[str, Any]:
    try:
        return parse(path.read_bytes(), path)
    except (OSError, Unreadable):
        return {}
