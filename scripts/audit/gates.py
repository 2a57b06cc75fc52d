"""Acceptance gates, declared before the run, and the verdict that follows from them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from scripts.audit.measure import NOT_MEASURED, Measure, is_measured, not_measured
from scripts.run.config import bundle_root

GUARDS = {  # in this order: the first guard of which a gate fails gives the verdict
    "under-forgetting": "not forgotten",
    "over-forgetting": "over-forgotten",
    "suppression": "suppressed",
    "retain damage": "retain damaged",
}
CONTROL = "control: the original fails no gate against under-forgetting"
KEYS = {"name", "guards", "measure", "at_least", "at_most", "if_measured"}
MEANINGS = {
    "not forgotten": "at least one gate against under-forgetting fails, whatever else holds",
    "over-forgotten": "no gate against under-forgetting fails, at least one against over-forgetting does",
    "suppressed": "the output is as if forgotten, but the knowledge is still there: no gate against under-forgetting "
    "or over-forgetting fails, at least one against suppression does",
    "retain damaged": "only gates against retain damage fail",
    "undecided": "no gate fails, but at least one is undecided or not measured, or the control fails to show that this "
    "audit can see remembering at all, or an oracle is not shown to be one, or audit and run differ",
    "forgotten exactly": "nothing of the forget set and nothing of the original entered the weights, and every gate on "
    "what is kept passes",
    "forgotten": "every gate passes, the control shows that the original would not have, and the records show that the "
    "oracle is one and that the audit is of the run",
}

HIDDEN = "; gates against suppression fail as well: the knowledge is still there"


def check_gates(gates: Sequence[Mapping]) -> None:
    """Refuse gates that could not be judged.

    Args:
        gates: See :func:`judge`.

    Raises:
        ValueError: naming the gate, the field, what was found and what was expected; also where one of the
            four failures has no gate.
    """
    for index, gate in enumerate(gates):
        where = f"gates: {gate.get('name', index) if isinstance(gate, Mapping) else index}"
        if not isinstance(gate, Mapping) or not set(gate) <= KEYS or not {"name", "guards", "measure"} <= set(gate):
            raise ValueError(f"{where}: expected the keys name, guards, measure and at_least or at_most, found {gate}")
        if gate["guards"] not in GUARDS:
            raise ValueError(f"{where}: 'guards': expected one of {', '.join(GUARDS)}, found {gate['guards']!r}")
        if not allowed(str(gate["measure"])):
            known = [f"{name}/{path}" for name, measure in Measure.known.items() for path in measure.gates]
            raise ValueError(f"{where}: 'measure': expected one of {', '.join(known)}, found {gate['measure']!r}")
        limits = [key for key in ("at_least", "at_most") if isinstance(gate.get(key), (int, float))]
        if len(limits) != 1 or len(set(gate) & {"at_least", "at_most"}) != 1:
            raise ValueError(f"{where}: expected one number, at_least or at_most, found {dict(gate)}")
        if not isinstance(gate.get("if_measured", False), bool):
            raise ValueError(f"{where}: 'if_measured': expected true or false, found {gate['if_measured']!r}")
    names = [gate["name"] for gate in gates]
    if len(set(names)) != len(names):
        raise ValueError(f"gates: 'name': expected each name once, found {names}")
    missing = sorted(set(GUARDS) - {gate["guards"] for gate in gates})
    if missing:
        raise ValueError(f"gates: 'guards': expected at least one gate for each failure, none for {', '.join(missing)}")


def allowed(path: str) -> bool:
    """Whether a measure allows a gate to read a path of its results."""
    name, _, rest = path.partition("/")
    measure = Measure.known.get(name)
    return measure is not None and any(re.fullmatch(pattern, rest) for pattern in measure.gates)


def project_gates(file: str | Path | None = None) -> list[dict[str, Any]]:
    """The gates of ``configs/gates.yaml``, by which the audit and the verifier of certificates judge.

    Args:
        file: Another YAML or JSON file with ``gates``.

    Raises:
        FileNotFoundError, ValueError: no such file, no list of gates, or gates that cannot be judged.
    """
    path = Path(file) if file is not None else Path(bundle_root(), "configs", "gates.yaml")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file of gates, found no such file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: expected YAML or JSON, found {error}") from error
    gates = content.get("gates") if isinstance(content, dict) else content
    if not isinstance(gates, list):
        raise ValueError(f"{path}: 'gates': expected a list, found {type(gates).__name__}")
    check_gates(gates)
    return gates


def judge(gate: Mapping[str, Any], measures: Mapping[str, Any]) -> dict:
    """Judge one gate by the interval of its measure.

    Args:
        gate: ``name``, ``guards``, ``measure`` (a path into the measures), ``at_least`` or ``at_most``, and
            ``if_measured``, true where the gate does not count without a result.
        measures: The audit's results; the path leads to ``{"value", "interval"}``.

    Returns:
        The gate with ``value``, ``interval``, ``verdict``: *pass* where the whole interval keeps the limit,
        *fail* where all of it breaks it, *undecided* where it straddles the limit, there is no interval, or the
        measure states under ``cannot_accept`` why it can reject but not accept; *not measured* (with ``why``).

    >>> gate = {"name": "KTA", "guards": "under-forgetting", "measure": "oracle_gap/KTA/psnr/above", "at_most": 1.0}
    >>> found = {"oracle_gap": {"KTA": {"psnr": {"above": {"value": 0.2, "interval": [-0.1, 0.5]}}}}}
    >>> judge(gate, found)["verdict"]
    'pass'
    """
    entry: Any = measures
    for key in gate["measure"].split("/"):
        entry = entry.get(key) if is_measured(entry) and isinstance(entry, Mapping) else entry
        if entry is None:
            entry = not_measured("no such result in this audit")
    if not is_measured(entry):
        return {**gate, "value": None, "interval": None, "verdict": NOT_MEASURED, "why": entry[NOT_MEASURED]}
    value, interval = entry["value"], entry["interval"]
    verdict = _verdict(gate, interval)
    if verdict == "pass" and entry.get("cannot_accept"):
        return {**gate, "value": value, "interval": interval, "verdict": "undecided", "why": entry["cannot_accept"]}
    return {**gate, "value": value, "interval": interval, "verdict": verdict}


def _verdict(gate: Mapping[str, Any], interval: Sequence[float] | None) -> str:
    if interval is None:
        return "undecided"
    low, high = interval
    if "at_most" in gate:
        return "pass" if high <= gate["at_most"] else "fail" if low > gate["at_most"] else "undecided"
    return "pass" if low >= gate["at_least"] else "fail" if high < gate["at_least"] else "undecided"


def control(gates: Sequence[Mapping[str, Any]], original: Mapping[str, Any]) -> dict:
    """Positive control: the original, which remembers, has to fail a gate against under-forgetting.

    Args:
        gates: The declared gates.
        original: The measures with the original in place of the audited model.

    Returns:
        ``{"gates": those against under-forgetting, judged on the original, "sees_remembering": bool}``.
    """
    judged = [judge(gate, original) for gate in gates if gate["guards"] == "under-forgetting"]
    return {"gates": judged, "sees_remembering": any(gate["verdict"] == "fail" for gate in judged)}


def overall(
    judged: Sequence[Mapping[str, Any]], sees_remembering: bool = True, doubts: Sequence[str] = (), exact: bool = False
) -> dict:
    """The verdict on the model; :data:`MEANINGS` defines each.

    Args:
        judged: What :func:`judge` returned for every gate.
        sees_remembering: What the :func:`control` found.
        doubts: Why no verdict above undecided can be given, see :func:`scripts.audit.provenance.doubts`.
        exact: Whether the run shows by how it was made that it forgot; the gates are then those on what is kept.

    Returns:
        ``{"verdict", "meaning", "because": names of the gates that led to it}``.

    >>> overall([{"name": "a", "guards": "retain damage", "verdict": "pass"}])["verdict"]
    'forgotten'
    """
    for guard, verdict in GUARDS.items():
        failed = _failed(judged, guard)
        if failed:
            hidden = guard == "over-forgetting" and _failed(judged, "suppression")
            return {"verdict": verdict, "meaning": MEANINGS[verdict] + (HIDDEN if hidden else ""), "because": failed}
    because = [
        gate["name"]
        for gate in judged
        if gate["verdict"] == "undecided" or (gate["verdict"] == NOT_MEASURED and not gate.get("if_measured"))
    ]
    if not sees_remembering and not exact:
        because.append(CONTROL)
    because += doubts
    verdict = "undecided" if because or not judged else "forgotten exactly" if exact else "forgotten"
    return {"verdict": verdict, "meaning": MEANINGS[verdict], "because": because}


def _failed(judged: Sequence[Mapping[str, Any]], guard: str) -> list[str]:
    """The names of the gates that fail against something."""
    return [gate["name"] for gate in judged if gate["verdict"] == "fail" and gate["guards"] == guard]
