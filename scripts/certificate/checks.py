"""What follows from a certificate alone: its measures, gates and verdict are computed again from its own results."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from scripts.audit.experiment import AUDITED, ORIGINAL, QUANTISED, TREATED
from scripts.audit.gates import check_gates, control, judge, of_original, overall
from scripts.audit.inputs import cost
from scripts.audit.provenance import doubts, provenance_problems
from scripts.audit.statistics import Statistics, is_measured
from scripts.audit.treated import left_out
from scripts.certificate import reference
from scripts.certificate.scans import measures_of, results_of
from scripts.evaluation.results import ZERO_FILLED, summarise
from scripts.run.files import json_sha256

HOLDS, FAILS, UNCHECKED = "holds", "FAILS", "not checked"
Finding = tuple[str, str]
TOLERANCE = 1e-9  # relative; sums may be taken in another order by another version of NumPy
UNFOLLOWED = {  # measures that the results of each scan do not give, and what would
    "distance": "needs the networks; recompute gives the distance of their weights, and nothing that of their features",
    "earlier": "needs the networks and the scans of earlier requests",
    "erosion": "needs the ledger and the records that it names",
    "likelihood": "needs the reference models and the scans of each patient",
}
EARLIER = "earlier"  # cohort of resurfacing whose scans are not stated


def finding(holds: bool, what: str) -> Finding:
    """A check and how it came out."""
    return (HOLDS if holds else FAILS), what


def figures(content: Mapping[str, Any], expected_gates: Sequence[Mapping] = reference.GATES) -> Iterator[Finding]:
    """Measures, summary, gates, control and verdict, each from the results of each scan.

    Args:
        content: The predicate.
        expected_gates: Gates that the verifier accepts; no better verdict than theirs is believed.
    """
    stated, scans = content["audit"], content["scans"]
    declared = stated["declared"]
    check_gates(declared["gates"])
    statistics = Statistics(
        declared["confidence"], declared["bootstrap_samples"], declared["seed"], declared["equivalence_margins"]
    )
    problems = provenance_problems(stated["provenance"]["runs"], stated["provenance"]["audit"], content["weights"])
    found = measures_of(scans, statistics, declared, left_out(problems))
    original = found.pop("control")
    found = _with_earlier(found, stated["measures"])
    if EARLIER in found["resurfacing"]:
        yield UNCHECKED, f"measure resurfacing, earlier requests: {UNFOLLOWED['earlier']}"
    for name, value in found.items():
        yield finding(
            same(stated["measures"].get(name), value), f"measure {name} follows from the results of each scan"
        )
    yield from _cost(stated)
    for name in sorted(set(stated["measures"]) - set(found) - {"cost"}):
        yield UNCHECKED, f"measure {name}: {UNFOLLOWED.get(name, 'nothing that is stated gives it')}"
    summary = summarise(results_of(scans))
    yield finding(same(stated["models"], summary), "means of each model follow from the results of each scan")
    measures = {**stated["measures"], **found}
    original = of_original(original, measures)
    gates = [judge(gate, measures) for gate in declared["gates"]]
    yield finding(same(stated["gates"], gates), "gates follow from the measures and the declared margins")
    checked = control(declared["gates"], original)
    yield finding(same(stated["control"], checked), "control follows from the results of the original")
    alike = declared.get("treated_oracle", False) == (TREATED in content["weights"])
    yield finding(alike, "the forgotten kind is judged by the declared oracle, treated alike or as it was trained")
    verdict = overall(gates, checked["sees_remembering"], doubts(problems))
    yield finding(
        stated["verdict"] == verdict,
        f"verdict follows from gates, control and provenance: stated {stated['verdict']['verdict']!r}, "
        f"found {verdict['verdict']!r}",
    )
    yield _by_reference(content, statistics, expected_gates, doubts(problems), left_out(problems))


def _by_reference(
    content: Mapping[str, Any],
    statistics: Statistics,
    gates: Sequence[Mapping],
    doubted: Sequence[str],
    without: Collection[str],
) -> Finding:
    """Whether the verdict is no better than by gates that the verifier accepts, and by intervals and settings of the
    project's own: those that were declared may be such that everything passes."""
    stated, declared = content["audit"], content["audit"]["declared"]
    usual = replace(reference.STATISTICS, seed=statistics.seed, equivalence=statistics.equivalence)
    found = measures_of(content["scans"], usual, declared, without)
    weak = reference.weaknesses(declared["measures"], stated["provenance"]["audit"]["mask"])
    measures = {**stated["measures"], **_with_earlier(found, stated["measures"])}
    judged = [judge(gate, measures) for gate in gates]
    for gate in judged:
        why = weak.get(gate["measure"].partition("/")[0], weak.get("evaluation"))
        if why is not None and gate["verdict"] == "pass":
            gate["verdict"] = "undecided"
    sees = control(gates, of_original(found["control"], measures))["sees_remembering"]
    verdict = overall(judged, sees, doubted)["verdict"]
    what = f"verdict {stated['verdict']['verdict']!r} is no better than by the reference gates, {verdict!r}"
    reasons = [f"{name}: {why}" for name, why in weak.items()]
    return finding(_rank(stated["verdict"]["verdict"]) <= _rank(verdict), "; ".join([what, *reasons]))


def _with_earlier(found: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """What was found, with what is stated of the resurfacing of earlier requests."""
    earlier = (stated.get("resurfacing") or {}).get(EARLIER)
    return {**found, "resurfacing": {**found["resurfacing"], **({} if earlier is None else {EARLIER: earlier})}}


def _cost(stated: Mapping[str, Any]) -> Iterator[Finding]:
    """The measure ``cost``, from what the records state of the unlearning and of the original's training."""
    runs, measured = stated["provenance"]["runs"], stated["measures"].get("cost")
    if not runs.get(AUDITED):
        yield UNCHECKED, "measure cost: there is no record of the unlearning"
        return
    run, training = runs[AUDITED][0], (runs.get(ORIGINAL) or [{}])[-1]
    record = {"cost": run["cost"], "data": {role: {"slices": count} for role, count in run["slices"].items()}}
    spent = cost(record, {"cost": training["cost"]} if training.get("verb") == "train" else None)
    if is_measured(measured["share_of_training"]) != is_measured(spent["share_of_training"]):
        spent["share_of_training"] = measured["share_of_training"]
        yield UNCHECKED, "measure cost: its share of the training: that training's record is not among the original's"
    yield finding(same(measured, spent), "measure cost follows from what the records state")


def provenance(content: Mapping[str, Any]) -> Iterator[Finding]:
    """Oracle, run and scans: whether they are what the audit says they are."""
    stated, scans = content["audit"]["provenance"], content["scans"]
    problems = provenance_problems(stated["runs"], stated["audit"], content["weights"])
    yield finding(problems == stated["problems"], "problems of origin are stated as they are")
    for name, found in problems.items():
        what = (
            "audit and run agree on network, mask, data and weights" if name == "run" else f"{name} is shown to be one"
        )
        if name == "run" or not found:
            yield finding(not found, "; ".join([what, *found]))
        else:
            yield UNCHECKED, f"{name} is not shown to be one, and the verdict allows for it: {'; '.join(found)}"
    cohorts: dict[str, list[str]] = {}
    for scan in scans:
        cohorts.setdefault(scan["cohort"], []).append(scan["sha256"])
    evaluated = {cohort: sorted(files) for cohort, files in cohorts.items()}
    yield finding(evaluated == stated["audit"]["evaluated"], "scans of each cohort are those that the audit evaluated")
    forget = sorted(entry["sha256"] for entry in content["forget_files"])
    yield finding(
        cohorts.get("UA") is not None and sorted(cohorts["UA"]) == forget, "UA is the forget set of the request"
    )
    models = {*content["weights"], QUANTISED, ZERO_FILLED}
    yield finding(
        all(set(scan["results"]) == models for scan in scans),
        "each model has a result on each scan, and no other model has one",
    )
    once = all(len({scan[key] for scan in scans}) == len(scans) for key in ("scan", "sha256"))
    yield finding(once, "no scan is counted twice")
    yield from _forget_files(content)
    known = {entry["sha256"] for entry in content["records"]}
    missing = [name for name, runs in stated["runs"].items() if any(run["record"] not in known for run in runs)]
    yield finding(not missing, "; ".join(["every run's record is named", *missing]))


def _forget_files(content: Mapping[str, Any]) -> Iterator[Finding]:
    """What the certificate says of the forget files at several places."""
    slices = {scan["sha256"]: scan["slices"] for scan in content["scans"]}
    stated = all(entry["slices"] == slices.get(entry["sha256"]) for entry in content["forget_files"])
    yield finding(stated, "slices of the forget files are those of the scans")
    origin = content["audit"]["provenance"]
    yield finding(origin["audit"]["datalist"] == content["datalist"]["sha256"], "datalist is the one of the audit")
    retained = origin["runs"]["unlearned"][0]["data"].get("retain")
    forgotten = {entry["sha256"] for entry in content["forget_files"]}
    if retained is None:
        yield UNCHECKED, "retain files hold no forget file: the run's record states no hash of each"
    else:
        yield finding(not forgotten & set(retained), "retain files hold no forget file")


def declaration(content: Mapping[str, Any]) -> Iterator[Finding]:
    """Gates and margins: those that were declared, and declared in time."""
    stated, made = content["audit"]["declared"], content["declaration"]
    same_gates = json_sha256(stated) == made["sha256"] and made["declared"] == stated
    yield finding(same_gates, "gates and margins are the declared ones")
    early, started = made["before"] == "the unlearning run", content["method"]["started"]
    order = f"declared before {made['before']} ({made['created']}; the unlearning run began {started})"
    if early:
        held = content["method"]["declaration"] == made["sha256"]
        yield finding(held, f"{order}: the run's record holds its hash")
        yield finding(_before(made["created"], started), f"{order}: the times are in order")
    elif content["method"]["declaration"] is not None:
        yield FAILS, f"{order}: the run's record holds the hash of an earlier declaration"
    else:
        yield UNCHECKED, f"{order}: whether a result was known by then cannot be told"
    if started is None:
        yield UNCHECKED, "times: the run's record does not say when it began"
    else:
        ended = content["created"]
        yield finding(
            _before(made["created"], ended) and _before(started, ended),
            "times: declaration and run, then the certificate",
        )


def same(first: Any, second: Any) -> bool:
    """Whether two JSON contents are equal, numbers to :data:`TOLERANCE`."""
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, (int, float)) and isinstance(second, (int, float)):
        return math.isclose(first, second, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if _is_list(first) and _is_list(second):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return first == second


def _rank(verdict: str) -> int:
    """How much a verdict claims: a failure nothing, "undecided" little."""
    return {"undecided": 1, "forgotten": 2}.get(verdict, 0)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _before(first: str, second: str | None) -> bool:
    form = "%Y-%m-%dT%H:%M:%S%z"
    try:
        return datetime.strptime(first, form) <= datetime.strptime(str(second), form)
    except ValueError:
        return False
