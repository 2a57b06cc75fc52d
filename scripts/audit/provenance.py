"""Where the audited models come from: what their records state, and whether an oracle is shown to be one."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.audit.inputs import COUNTS, read_record, record_beside
from scripts.audit.measure import ORACLE, TREATED, oracle_names
from scripts.audit.treated import recipe_of, treated_problems, unlike
from scripts.networks.weights import read_state
from scripts.run.files import file_sha256, json_object

OF_ORACLE = {"oracle", "seed", "forget_only", "training_share"}  # in which an oracle's training may differ
ORACLE_NOT_SHOWN = "oracle not shown to be one"
CHANGED = "settings that are not the project's"
RUN_DIFFERS = "audit and run differ"
SETTINGS = ("network", "mask", "loss_function")  # blocks of a configuration that the compared runs share


def record_facts(record: Mapping[str, Any], sha256: str) -> dict:
    """What a run's record says about the origin of its weights, without a name or a path in it.

    Args:
        record: The record that train or unlearn wrote.
        sha256: Of the record's file.

    Returns:
        ``record`` and, from it, ``verb``, ``handlers`` (how many the unlearning method has), ``weights_in``,
        ``weights_out``, ``datalist`` (SHA-256), ``network``, ``mask`` (configurations), ``data`` and ``evaluated``:
        role -> sorted SHA-256 of its files, null where the record states none; ``cost`` (:data:`COUNTS`),
        ``forgotten``; ``slices`` (role -> how many were to be read); ``opened``, SHA-256 of ``scans`` and ``weights``
        that data sets and loaders reported when they opened them, null where the record has none; ``recipe``, see
        :func:`scripts.audit.treated.recipe_of`; ``forgetting``, ``prior`` (SHA-256) and ``code`` (SHA-256).
    """
    configuration = record.get("configuration", {})
    return {
        "record": sha256,
        "verb": record.get("verb"),
        "handlers": len(configuration.get("method") or []),
        "weights_in": (record.get("weights_in") or {}).get("sha256"),
        "weights_out": _weights_out(record),
        "datalist": (record.get("datalist") or {}).get("sha256"),
        **{name: configuration.get(name) for name in SETTINGS},
        **{kind: _hashes(record.get(kind) or {}) for kind in ("data", "evaluated")},
        "cost": {name: (record.get("cost") or {}).get(name) for name in COUNTS},
        "forgotten": sorted(entry["sha256"] for entry in record.get("forgotten") or []),
        "slices": {role: entry.get("slices") for role, entry in (record.get("data") or {}).items()},
        "opened": _opened(record.get("opened")),
        "recipe": recipe_of(configuration),
        "forgetting": record.get("forgetting"),
        "prior": (record.get("prior") or {}).get("sha256"),
        "code": (record.get("environment") or {}).get("code_sha256"),
    }


def lineage(weights: str | Path, record: str | Path | None = None) -> list[Path]:
    """The records of every run that led to some weights, the last one first; empty without a record.

    Args:
        weights: The file.
        record: The record of the last run; None: the one beside the weights. The record of earlier weights is the one
            in the weights' folder that states their SHA-256.

    Raises:
        ValueError: the last run's record is of other weights, or no record.
    """
    last = record or record_beside(weights)
    if read_record(last, weights) is None:
        return []
    known = {_weights_out(json_object(path)): path for path in sorted(Path(weights).parent.glob("*.json"))}
    known.pop(None, None)
    paths = [Path(str(last))]
    while (source := (json_object(paths[-1]).get("weights_in") or {}).get("sha256")) in known:
        if known[source] in paths:
            break
        paths.append(known[source])
    return paths


def origin(records: Sequence[Path]) -> list[dict]:
    """:func:`record_facts` of each record of a :func:`lineage`."""
    return [record_facts(json_object(path), file_sha256(path)) for path in records]


def weights_hashes(path: str | Path) -> dict[str, str]:
    """SHA-256 of a file of weights and of its tensors, which stays the same where these are saved once more.

    Raises:
        ValueError: a tensor that has more values than its file, as one that was expanded.
    """
    digest, size = hashlib.sha256(), Path(path).stat().st_size
    for name, tensor in sorted(read_state(path).items()):
        if tensor.numel() * tensor.element_size() > size:
            raise ValueError(f"{path}: {name!r}: expected at most the {size} bytes of its file, found {tensor.shape}")
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return {"sha256": file_sha256(path), "tensors_sha256": digest.hexdigest()}


def provenance_problems(
    runs: Mapping[str, Sequence[Mapping]], audit: Mapping, weights: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """What speaks against the oracles, and in what an audit differs from the run that it audits.

    An oracle was made by ``train`` on the original's training files without the forget files, all by hash, with the
    original's network, mask and loss, and by the same recipe. ``unlearn`` without a handler, which reads retain files
    alone, may have followed. A control is what the audited run's own unlearning made of such an oracle.

    Args:
        runs: model -> :func:`origin` of its weights, for ``G``, ``unlearned`` and every oracle.
        audit: ``datalist``, ``network``, ``mask``, ``loss_function``, ``data`` (``forget``) and ``evaluated`` of the
            audit, as in :func:`record_facts`; ``changed``, the settings that are not the project's.
        weights: model -> :func:`weights_hashes`.

    Returns:
        oracle -> problems, ``run`` -> problems and ``settings`` -> the changed ones; an empty list where there is none.
    """
    found = {name: _oracle_problems(name, runs, audit["data"]["forget"], weights) for name in oracle_names(weights)}
    if TREATED in weights:
        found[TREATED] = treated_problems(runs, weights)
        if found.get(ORACLE):
            found[TREATED].append("the oracle is not shown to be one")
    found["run"] = _run_problems(audit, runs, weights) if runs.get("unlearned") else []
    found["settings"] = [f"{key!r}" for key in audit["changed"]]
    return found


def doubts(problems: Mapping[str, Sequence[str]]) -> list[str]:
    """Why no verdict above undecided can be given, one line a reason."""
    kinds = {"run": RUN_DIFFERS, "settings": CHANGED}
    return [
        f"{kinds.get(name, f'{name}: {ORACLE_NOT_SHOWN}')}: {'; '.join(texts)}"
        for name, texts in problems.items()
        if texts
    ]


def _oracle_problems(name: str, every: Mapping, forget: Sequence[str], weights: Mapping) -> list[str]:
    keys, runs, original = ("sha256", "tensors_sha256"), every.get(name) or [], every.get("G") or []
    problems = [
        f"its weights are those of {other}"
        for other, entry in weights.items()
        if other != name and any(entry[key] == weights[name][key] for key in keys)
    ]
    if not runs:
        return [*problems, "no record beside its weights"]
    if not original:
        return [*problems, "no record of the original's training"]
    problems += _broken_line(weights[name]["sha256"], runs)
    problems += [
        f"{block}: another one than the original's" for block in SETTINGS if runs[-1][block] != original[-1][block]
    ]
    return problems + _training_problems(runs[-1], original, set(forget))


def _broken_line(sha256: str, runs: Sequence[Mapping]) -> list[str]:
    """Whether the runs lead from ``train`` to these weights without a step that could have read the forget set."""
    problems = []
    if runs[0]["weights_out"] != sha256:
        problems.append("its record is of other weights")
    if runs[-1]["verb"] != "train" or runs[-1]["weights_in"] is not None:
        problems.append("no record of its training by the verb train from fresh weights")
    if any(later["weights_in"] != earlier["weights_out"] for later, earlier in itertools.pairwise(runs)):
        problems.append("its records do not follow from each other")
    if any(run["verb"] != "unlearn" or run["handlers"] for run in runs[:-1]):
        problems.append("its training was followed by more than training on retain files")
    return problems


def _training_problems(oracle: Mapping, original: Sequence[Mapping], forget: set[str]) -> list[str]:
    """Whether an oracle read the original's training files without the forgotten ones, those of earlier runs too."""
    read, trained = oracle["data"].get("training"), original[-1]["data"].get("training")
    if not read or not trained:
        return ["the records state no hash of each training file"]
    gone = forget.union(*(run["forgotten"] for run in original[:-1]))
    problems = []
    opened = set(read) if oracle["opened"] is None else set(oracle["opened"]["scans"])
    if gone & (opened | set(read)):
        problems.append(f"{len(gone & (opened | set(read)))} forget files were in its training")
    if oracle["code"] == original[-1]["code"]:
        own = {key: value for key, value in oracle["recipe"].items() if key not in OF_ORACLE}
        theirs = {key: value for key, value in original[-1]["recipe"].items() if key not in OF_ORACLE}
        problems += unlike(theirs, own, "original's training's")
    if set(trained) - gone != set(read) - gone:
        problems.append("its training files are not the original's without the forget files")
    if not forget <= set(trained):
        problems.append("the original was not trained on every forget file")
    return problems


def _run_problems(
    audit: Mapping, runs: Mapping[str, Sequence[Mapping]], weights: Mapping[str, Mapping[str, str]]
) -> list[str]:
    run, training = runs["unlearned"][0], next(iter((runs.get("G") or [])[-1:]), None)
    problems = [f"{name}: another one than the run's" for name in ("datalist", *SETTINGS) if audit[name] != run[name]]
    if audit["data"]["forget"] != run["forgotten"]:
        problems.append("forget files: other ones than the run's")
    differ = sorted(cohort for cohort, files in run["evaluated"].items() if files != audit["evaluated"].get(cohort))
    problems += [f"files of {cohort}: other ones than the run's" for cohort in differ]
    if training is not None and training["loss_function"] != audit["loss_function"]:
        problems.append("loss_function: another one than that of the original's training")
    if run["forgetting"] == "exact":
        problems += _not_exact(run)
    if run["verb"] != "unlearn":
        problems.append("its record is not one of unlearn")
    if run["weights_in"] != weights["G"]["sha256"]:
        problems.append("original: other weights than those that the run started from")
    if run["weights_out"] != weights["unlearned"]["sha256"]:
        problems.append("unlearned: other weights than those of the run")
    return problems


def _not_exact(run: Mapping) -> list[str]:
    """What speaks against an exact run: a forgotten scan was opened, no prior was, or the record does not say."""
    if run["opened"] is None or not run["opened"]["scans"]:
        return ["it is stated to be exact, but its record states no opened scans"]
    forget = set(run["forgotten"])
    problems = (
        [] if not forget & set(run["opened"]["scans"]) else ["it is stated to be exact, but opened forgotten scans"]
    )
    if run["prior"] not in run["opened"]["weights"]:
        problems.append("it is stated to be exact, but did not open the prior that its record names")
    return problems


def _opened(opened: Any) -> dict[str, list[str]] | None:
    if not isinstance(opened, Mapping):
        return None
    parts = {kind: [entry.get("sha256") for entry in opened.get(kind) or []] for kind in ("scans", "weights")}
    return {kind: sorted(set(hashes)) for kind, hashes in parts.items()} if all(map(all, parts.values())) else None


def _hashes(roles: Mapping[str, Mapping]) -> dict[str, list[str] | None]:
    found = {role: [entry.get("sha256") for entry in part["volumes"]] for role, part in roles.items()}
    return {role: sorted(hashes) if all(hashes) else None for role, hashes in found.items()}


def _weights_out(record: Mapping) -> str | None:
    return (record.get("weights_out") or {}).get("sha256")
