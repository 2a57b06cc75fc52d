"""What can be checked of a certificate: gates and verdict, judged again, origin, files, ledger."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from multiprocessing import TimeoutError, get_context
from pathlib import Path
from typing import Any

import torch

from scripts.audit.audit import judged_by
from scripts.audit.gates import check_gates, project_gates
from scripts.audit.measure import TREATED
from scripts.audit.provenance import provenance_problems, weights_hashes
from scripts.certificate.signature import Unreadable, parse, read_bounded
from scripts.networks import load_weights
from scripts.networks.from_record import network_from_record
from scripts.requests.ledger import Ledger
from scripts.run.files import file_sha256, json_sha256
from scripts.run.keys import read_key
from scripts.training.record import environment

HOLDS, FAILS, UNCHECKED = "holds", "FAILS", "not checked"
Finding = tuple[str, str]
TOLERANCE = 1e-9  # relative; sums may be taken in another order by another version of NumPy
RANKS = {"undecided": 1, "forgotten": 2, "forgotten exactly": 2}  # how much a verdict claims; a failure nothing
SUBJECTS = ("model.pt", "model.ts", "model.pt2", "model.safetensors")  # the last where its package was at hand
MOST_SECONDS, MOST_MEMORY = 300, 64 << 30  # for the images of a bundle's networks


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
    exact = (stated["provenance"]["runs"].get("unlearned") or [{}])[0].get("forgetting") == "exact"
    kept_alone = stated["forgetting"]["kept_alone"]
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
    yield UNCHECKED, "measures, record and data: they are as stated; --rerun takes them again from the run"
    forgetting = stated["forgetting"]
    yield finding((forgetting["how"] == "exact") == exact, f"forgetting is {forgetting['how']}, as the record states")
    if exact and forgetting["shown"] == "replayed":
        yield UNCHECKED, "forgetting: its maker states to have replayed the run; --replay repeats it here"
    elif exact:
        yield UNCHECKED, "forgetting: whoever has prior, retained scans and record can replay the run: --replay"


def _judged(content: Mapping[str, Any], declared: Mapping[str, Any], kept_alone: bool) -> dict[str, Any]:
    stated = content["audit"]
    problems = provenance_problems(stated["provenance"]["runs"], stated["provenance"]["audit"], content["weights"])
    return judged_by(stated["measures"], stated["control"]["measures"], declared, problems, kept_alone)


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
    evaluated, run = stated["audit"]["evaluated"], stated["runs"]["unlearned"][0]
    forgotten = sorted(entry["sha256"] for entry in content["forget_files"])
    yield finding(sorted(evaluated.get("UA", [])) == forgotten, "UA is the forget set of the request")
    every = [sha256 for files in evaluated.values() for sha256 in files]
    yield finding(len(set(every)) == len(every), "no scan is counted twice")
    yield finding(stated["audit"]["datalist"] == content["datalist"]["sha256"], "datalist is the one of the audit")
    yield finding(not set(forgotten) & set(run["data"].get("retain") or ()), "retain files hold no forget file")
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
        in_order = _before(made["created"], ended) and _before(started, ended)
        yield finding(in_order, "times: declaration and run, then the certificate")


def _before(first: str, second: str | None) -> bool:
    form = "%Y-%m-%dT%H:%M:%S%z"
    try:
        return datetime.strptime(first, form) <= datetime.strptime(str(second), form)
    except ValueError:
        return False


def same(first: Any, second: Any) -> bool:
    """Whether two JSON contents are equal, numbers to :data:`TOLERANCE`."""
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, (int, float)) and isinstance(second, (int, float)):
        return math.isclose(first, second, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return bool(first == second)


def files(content: Mapping[str, Any], folder: Path, weights: Mapping[str, Path]) -> Iterator[Finding]:
    """The audit's outputs, the records of the runs and the weights: whether they are there and the certified ones.

    Args:
        content: The predicate.
        folder: The audit's.
        weights: model -> file.
    """
    audit = read_json(folder / "audit.json")
    named = {f"output {name}": (folder / name, sha256) for name, sha256 in content["outputs"].items()}
    for name, runs in content["audit"]["provenance"]["runs"].items():
        there = audit.get("inputs", {}).get("records", {}).get(name, [])
        for index, facts in enumerate(runs):
            path = folder / there[index]["path"] if index < len(there) else None
            what = f"record of {name}" + (f", {index} before the last run" if index else "")
            named[what] = (path, facts["record"])
    named |= {f"weights {name}": (weights.get(name), entry["sha256"]) for name, entry in content["weights"].items()}
    for what, (path, sha256) in named.items():
        if path is None or not path.is_file():
            yield UNCHECKED, f"{what}: not here"
            continue
        known = file_sha256(path) == sha256
        yield finding(known, f"{what}, {path.name}: SHA-256" if what.startswith("record") else f"{what}: SHA-256")
        if known and what.startswith("weights"):
            stated = content["weights"][what.removeprefix("weights ")]["tensors_sha256"]
            yield finding(weights_hashes(path)["tensors_sha256"] == stated, f"{what}: SHA-256 of the tensors")
    if environment()["code_sha256"] == content["audit"]["code_sha256"]:
        yield finding(True, "code is the installed one")
    else:
        yield UNCHECKED, "code of the audit: another version, or only a part of it, is installed here"


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; {} where there is none."""
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
    last = content["ledger"]
    if last is None:
        yield UNCHECKED, "ledger: the audit was entered in none, so that nobody knows of others of these weights"
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
    if last is not None:
        there = known.line_hash(last["line"]) == last["line_sha256"]
        yield finding(there, f"ledger: it has line {last['line']}, with which it ended when this was certified")
    weights, run = content["weights"]["unlearned"]["sha256"], content["audit"]["provenance"]["runs"]["unlearned"][0]
    ends = [line for line in known.lines if line["event"] == "erased" and line["weights_out"] == weights]
    if not ends:
        yield FAILS, "ledger: it knows no run that made these weights"
    else:
        yield finding(ends[-1]["record_sha256"] == run["record"], "ledger: its run has the certified record")
        erased = sorted(scan["sha256"] for scan in known.lines[ends[-1]["begun"] - 1]["scans"])
        forgotten = sorted(entry["sha256"] for entry in content["forget_files"])
        yield finding(erased == forgotten, "ledger: its run erased the certified forget files")
        begun = content["method"]["ledger"]
        held = begun is not None and known.line_hash(begun["line"]) == begun["line_sha256"]
        yield finding(held, "ledger: the run's line is the one that the run's record holds")
    audits = [line for line in known.lines if line["event"] == "audited" and line["weights"] == weights]
    others = [line["verdict"] for line in audits if line["audit_sha256"] != content["outputs"]["audit.json"]]
    yield finding(len(others) < len(audits), "ledger: it knows the certified audit")
    if others:
        yield UNCHECKED, f"ledger: {len(others)} other audits of these weights, with the verdicts {', '.join(others)}"


def models(content: Mapping[str, Any], bundle: Path) -> Iterator[Finding]:
    """Everything in a shipped bundle that can run: the certified weights, and programs that give the same images.

    Args:
        content: The predicate.
        bundle: The bundle's folder, with ``models``.
    """
    there = {path.relative_to(bundle / "models").as_posix(): path for path in sorted((bundle / "models").rglob("*"))}
    unknown = sorted(set(there) - set(SUBJECTS))
    yield finding(not unknown, "; ".join(["models holds the certified forms alone", *unknown]))
    if SUBJECTS[0] not in there:
        yield FAILS, f"subject: expected {SUBJECTS[0]} in models, found none"
        return
    for name in SUBJECTS[1:3]:
        if name not in there:
            yield UNCHECKED, f"subject: no {name} here: the network has no such form, or it was removed"
    certified = file_sha256(there[SUBJECTS[0]]) == content["weights"]["unlearned"]["sha256"]
    yield finding(certified, f"subject: {SUBJECTS[0]} is what the certificate is about")
    if not certified:
        return
    with get_context("spawn").Pool(1, _bounded) as pool:  # a bundle may hold networks that never end
        try:
            yield from pool.apply_async(_same_images, (str(bundle),)).get(MOST_SECONDS)
        except TimeoutError:
            yield FAILS, f"subject: its networks gave no image within {MOST_SECONDS} s"


def _bounded() -> None:
    import resource  # of POSIX alone

    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


def _same_images(folder: str) -> list[Finding]:
    """Whether each program of a bundle gives the images of its weights."""
    bundle, (weights, *programs, tensors) = Path(folder), SUBJECTS
    there = {name: path for name in SUBJECTS if (path := bundle / "models" / name).is_file()}
    findings: list[Finding] = []
    config = dict(read_json(bundle / "configs" / "inference.json").get("network_def") or {})
    config.pop("_requires_", None)  # an order of MONAI's parser, which builds nothing
    network = load_weights(network_from_record(config, "inference.json: 'network_def'"), there[weights]).eval()
    kspace = torch.randn(1, 2, 96, 88, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(kspace)
        for name in (name for name in programs if name in there):
            load = torch.jit.load if name.endswith(".ts") else torch.export.load
            program: Any = load(there[name])
            image = (program if name.endswith(".ts") else program.module())(kspace)
            alike = image.shape == expected.shape and torch.allclose(image, expected, rtol=1e-4, atol=1e-6)
            findings.append(finding(alike, f"subject: {name} gives the images of {weights}"))
    if tensors in there:
        try:
            from safetensors.torch import load_file
        except ImportError:
            return [*findings, (UNCHECKED, f"subject: {tensors}: the package safetensors is not installed")]
        state = network.state_dict()  # of tensors that are one, the file has the first
        known = all(
            name in state and torch.equal(state[name], value) for name, value in load_file(there[tensors]).items()
        )
        findings.append(finding(known, f"subject: {tensors} holds the tensors of {weights}"))
    return findings
