"""What follows from a certificate alone: gates and verdict, judged again from its measures by the audit's function."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from scripts.audit.audit import judged_by
from scripts.audit.gates import check_gates, project_gates
from scripts.audit.measure import TREATED
from scripts.audit.provenance import provenance_problems
from scripts.run.files import json_sha256

HOLDS, FAILS, UNCHECKED = "holds", "FAILS", "not checked"
Finding = tuple[str, str]
TOLERANCE = 1e-9  # relative; sums may be taken in another order by another version of NumPy
RANKS = {"undecided": 1, "forgotten": 2, "forgotten exactly": 2}  # how much a verdict claims; a failure nothing


def finding(holds: bool, what: str) -> Finding:
    """A check and how it came out."""
    return (HOLDS if holds else FAILS), what


def figures(content: Mapping[str, Any], expected_gates: Sequence[Mapping] | None = None) -> Iterator[Finding]:
    """Gates, control and verdict, judged again from the measures that are stated.

    Args:
        content: The predicate.
        expected_gates: Gates that the verifier accepts; no better verdict than theirs is believed. None: the project's.
    """
    stated = content["audit"]
    check_gates(stated["declared"]["gates"])
    kept_alone = stated["forgetting"]["kept_alone"]
    exact = is_exact(content)
    yield finding(exact or not kept_alone, "measures of forgetting are left out of an exact run alone")
    again = _judged(content, stated["declared"], kept_alone and exact)
    yield finding(same(stated["gates"], again["gates"]), "gates follow from the measures and the declared margins")
    yield finding(same(stated["control"], again["control"]), "control follows from the measures of the original")
    claimed, found = stated["verdict"], again["verdict"]
    yield finding(
        claimed == found,
        f"verdict follows from gates, control and provenance: {claimed['verdict']!r}, found {found['verdict']!r}",
    )
    alike = stated["declared"]["treated_oracle"] == (TREATED in content["weights"])
    yield finding(alike, "the forgotten kind is judged by the declared reference, control or oracle")
    gates = project_gates() if expected_gates is None else expected_gates
    verdict = _judged(content, {**stated["declared"], "gates": gates}, kept_alone and exact)["verdict"]["verdict"]
    yield finding(
        RANKS.get(claimed["verdict"], 0) <= RANKS.get(verdict, 0),
        f"verdict {claimed['verdict']!r} is no better than by the reference gates, {verdict!r}",
    )
    yield UNCHECKED, "measures: they are as stated; --rerun takes them again from weights and data"
    yield from _forgetting(stated["forgetting"], exact)


def is_exact(content: Mapping[str, Any]) -> bool:
    """Whether the certified run's record states that it forgot exactly."""
    runs = content["audit"]["provenance"]["runs"].get("unlearned") or [{}]
    return bool(runs[0].get("forgetting") == "exact")


def _judged(content: Mapping[str, Any], declared: Mapping[str, Any], kept_alone: bool) -> dict[str, Any]:
    stated = content["audit"]
    problems = provenance_problems(stated["provenance"]["runs"], stated["provenance"]["audit"], content["weights"])
    return judged_by(stated["measures"], stated["control"]["measures"], declared, problems, kept_alone)


def _forgetting(stated: Mapping[str, Any], exact: bool) -> Iterator[Finding]:
    yield finding((stated["how"] == "exact") == exact, f"forgetting is {stated['how']}, as the run's record states")
    if exact and stated["shown"] == "replayed":
        yield UNCHECKED, "forgetting: its maker states to have replayed the run; --replay repeats it here"
    elif exact:
        yield UNCHECKED, "forgetting: whoever has prior, retained scans and record can replay the run: --replay"


def provenance(content: Mapping[str, Any]) -> Iterator[Finding]:
    """Oracle, run and scans: whether they are what the audit says they are."""
    stated = content["audit"]["provenance"]
    problems = provenance_problems(stated["runs"], stated["audit"], content["weights"])
    yield finding(problems == stated["problems"], "problems of origin are stated as they are")
    agree = {
        "run": "audit and run agree on network, mask, loss, data and weights",
        "settings": "every setting of the audit is the project's, or one that may be chosen",
    }
    for name, found in problems.items():
        what = agree.get(name, f"{name} is shown to be one")
        if name == "run" or not found:
            yield finding(not found, "; ".join([what, *found]))
        else:
            yield UNCHECKED, f"not so, and the verdict allows for it: {what}: {'; '.join(found)}"
    evaluated = stated["audit"]["evaluated"]
    forgotten = sorted(entry["sha256"] for entry in content["forget_files"])
    yield finding(sorted(evaluated.get("UA", [])) == forgotten, "UA is the forget set of the request")
    every = [sha256 for files in evaluated.values() for sha256 in files]
    yield finding(len(set(every)) == len(every), "no scan is counted twice")
    yield finding(stated["audit"]["datalist"] == content["datalist"]["sha256"], "datalist is the one of the audit")
    retained = stated["runs"]["unlearned"][0]["data"].get("retain")
    if retained is None:
        yield UNCHECKED, "retain files hold no forget file: the run's record states no hash of each"
    else:
        yield finding(not set(forgotten) & set(retained), "retain files hold no forget file")
    known = {entry["sha256"] for entry in content["records"]}
    missing = [name for name, runs in stated["runs"].items() if any(run["record"] not in known for run in runs)]
    yield finding(not missing, "; ".join(["every run's record is named", *missing]))


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


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _before(first: str, second: str | None) -> bool:
    form = "%Y-%m-%dT%H:%M:%S%z"
    try:
        return datetime.strptime(first, form) <= datetime.strptime(str(second), form)
    except ValueError:
        return False
