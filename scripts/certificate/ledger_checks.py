"""A certificate beside the ledger: whether it knows the run, and which audits of these weights there were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.certificate.checks import FAILS, UNCHECKED, Finding, finding
from scripts.requests.ledger import Ledger
from scripts.run.keys import read_key


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
    yield from _run(content, known)
    yield from _audits(content, known)


def _run(content: Mapping[str, Any], known: Ledger) -> Iterator[Finding]:
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
