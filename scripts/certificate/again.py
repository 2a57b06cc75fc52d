"""Verify by doing it again: the audit with its certificate from the run's record, and the unlearning itself."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.certificate.checks import FAILS, HOLDS, UNCHECKED, Finding, finding, read_json
from scripts.certificate.signature import NAME
from scripts.run.config import bundle_root, run_verb
from scripts.run.errors import own_error

# settings of the certified audit with which it is done again; the rest is the run's or the project's
SETTINGS = (
    "seed", "statistics", "subgroups", "relearning_steps", "resurfacing_share", "slices_per_measure", "likelihood_rate",
    "full", "precision", "oracle_weights", "oracle_seeds", "treated_oracle_weights", "reference_weights",
    "oracle_tuned",
)  # fmt: skip
PARTS = ("request", "forget_files", "datalist", "retain_subset", "method", "oracle_seen", "weights", "records")
KEYED = ("request", "forget_files", "files")  # what another identifier key makes others of
ABSOLUTE, RELATIVE = 0.05, 0.05  # by which the value of a gate may differ on another machine
SAME, NOT_COMPARABLE = "same bits", "not comparable"  # what the verb replay says


def audit_again(run: str | Path, audit: str | Path, identifier_key: str | Path | None = None) -> dict[str, Any]:
    """Audit a run once more, with the settings of its audit; nothing is entered or written beside the run.

    Args:
        run: The folder that ``unlearn`` wrote.
        audit: The folder of the certified audit, whose settings are used; without ``audit.json`` the project's.
        identifier_key: The file with the key of the keyed hashes; None: the audit's, else ``MRI_UNLEARNING_KEY``.

    Returns:
        The predicate of the new certificate.

    Raises:
        RuntimeError: The audit cannot be done again.
    """
    configuration = read_json(Path(audit, "audit.json")).get("configuration", {})
    settings = {key: configuration[key] for key in SETTINGS if configuration.get(key) is not None}
    if isinstance(configuration.get("gates"), list):
        settings["gates"] = configuration["gates"]
    own = Path(audit, "identifiers.key")
    key = identifier_key or (own if own.is_file() else None)
    with tempfile.TemporaryDirectory() as folder:
        settings |= {"run": str(run), "output_dir": f"{folder}/audit", "identifier_key": key and str(key)}
        run_verb("audit", [_config("audit"), _config("rerun")], **settings)
        return dict(json.loads(Path(folder, "audit", NAME).read_text(encoding="utf-8"))["predicate"])


def differences(content: Mapping[str, Any], again: Mapping[str, Any]) -> Iterator[Finding]:
    """What is stated, beside what the audit states when it is done once more.

    Args:
        content: The predicate.
        again: That of :func:`audit_again`.
    """
    keyed = content["identifiers"] == again["identifiers"]
    if not keyed:
        yield UNCHECKED, "rerun: names, request and reason: the identifier key is not that of the certificate"
    stated, found = (
        {part: one[part] for part in PARTS}
        | {"provenance": one["audit"]["provenance"]["runs"], "scans": one["audit"]["provenance"]["audit"]["evaluated"]}
        for one in (content, again)
    )
    for part, entry in stated.items():
        other = found[part]
        names = sorted({*entry, *other}) if isinstance(entry, Mapping) and isinstance(other, Mapping) else []
        pairs = [(f"{part}, {name}", entry.get(name), other.get(name)) for name in names] or [(part, entry, other)]
        for name, one, again_one in pairs:
            if keyed or not set(name.split(", ")) & set(KEYED):
                yield finding(one == again_one, f"rerun: {name}: as record and data say")
    measured = {gate["measure"]: gate["value"] for gate in again["audit"]["gates"]}
    for gate in content["audit"]["gates"]:
        value = measured.get(gate["measure"])
        close = value is gate["value"] or (
            value is not None
            and gate["value"] is not None
            and abs(value - gate["value"]) <= max(ABSOLUTE, RELATIVE * abs(gate["value"]))
        )
        said = ("not measured" if one is None else f"{one:.3f}" for one in (gate["value"], value))
        yield finding(close, f"rerun: {gate['name']}: {', again '.join(said)}")


def rerun(content: Mapping[str, Any], run: str | Path, audit: Path, key: str | Path | None) -> Iterator[Finding]:
    """Audit a run once more, see :func:`audit_again`, and compare, see :func:`differences`."""
    if not Path(_config("audit")).is_file():
        yield UNCHECKED, "rerun: this bundle has no verb audit; one shipped with --profile full has"
        return
    try:
        again = audit_again(run, audit, key)
    except RuntimeError as error:
        yield FAILS, f"rerun: the audit cannot be done again: {own_error(error)}"
        return
    yield from differences(content, again)


def replay(run: str | Path) -> Iterator[Finding]:
    """Do the unlearning of a run once more, and compare the bits of its weights."""
    if not Path(_config("replay")).is_file():
        yield UNCHECKED, "replay: this bundle has no verb replay; one shipped with --profile full has"
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            run_verb("replay", [_config("replay")], run=str(run), output_dir=folder)
        except RuntimeError as error:
            yield FAILS, f"replay: {own_error(error)}"
            return
        verdict = json.loads(Path(folder, "replay.json").read_text(encoding="utf-8"))["verdict"]
    kinds = {SAME: HOLDS, NOT_COMPARABLE: UNCHECKED}
    yield kinds.get(verdict, FAILS), f"replay: {verdict}"


def _config(verb: str) -> str:
    return f"{bundle_root()}/configs/{verb}.yaml"
