"""The control: the audited run's unlearning, run on the oracle, the network that never saw the forget set.

Unlearning U of a set S is judged by U(S, A(D)) beside U(∅, A(D without S)): the same algorithm on the network that
was trained without S. What U does to any network, by another optimiser or augmentation, is then no difference between
the two. Source: Sekhari, Acharya, Kamath and Suresh, Remember What You Want to Forget: Algorithms for Machine
Unlearning, NeurIPS 2021, definition of unlearning.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.audit.measure import AUDITED, ORACLE, TREATED
from scripts.run.config import TRACKING, running_config
from scripts.run.files import json_sha256

# what may differ between two runs of one recipe: where they lie and run, and what is compared by its hash or count
FREE = {
    "_meta_", "imports", "output_dir", "device", "num_workers", "datalist", "forget_request", "weights",
    "oracle_weights", "ledger", "enter_in_ledger", "older_weights", "check_values", "evaluate_models",
    "epoch_weights", "resume", "overwrite", "training_passes", "like", *TRACKING,
}  # fmt: skip
NOT_SHOWN = "what it read is not shown: its record states no opened scans"


def recipe_of(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Key -> SHA-256 of everything in a configuration that decides what a run does."""
    return {key: json_sha256(value) for key, value in sorted(configuration.items()) if key not in FREE}


def treated_problems(runs: Mapping[str, Sequence[Mapping]], weights: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What speaks against a control; empty where it is the audited run's unlearning, run on the oracle.

    Args:
        runs: model -> :func:`scripts.audit.provenance.origin` of its weights.
        weights: model -> :func:`scripts.audit.provenance.weights_hashes`.
    """
    ours, theirs = (next(iter(runs.get(name) or []), None) for name in (AUDITED, TREATED))
    if theirs is None:
        return ["no record beside its weights"]
    if ours is None:
        return ["no record of the audited run to compare it with"]
    if theirs["verb"] != "unlearn" or theirs["weights_in"] != weights.get(ORACLE, {}).get("sha256"):
        return ["its record is not one of unlearn on the oracle's weights"]
    problems = [] if theirs["weights_out"] == weights[TREATED]["sha256"] else ["its record is of other weights"]
    return [*problems, *_copies(ours, weights), *_differences(ours, theirs)]


def passes_alike(record: str | Path) -> int:
    """The passes of training by which an audited run went, for the run that makes its control.

    Args:
        record: The record of the audited run.

    Raises:
        FileNotFoundError, ValueError: no such record; or the run that is about to start is not the audited one's
            unlearning.
    """
    if not Path(record).is_file():
        raise FileNotFoundError(f"'like': expected the record of the run to be audited, found no such file: {record}")
    try:
        facts = json.loads(Path(record).read_text(encoding="utf-8"))
        ours, passes = recipe_of(facts["configuration"]), int(facts["training_passes"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'like': {record}: expected the record of the run to be audited, found {error!r}") from error
    problems = unlike(ours, recipe_of(running_config()))
    if problems:
        raise ValueError(f"treated oracle: {record}: {'; '.join(problems)}")
    return passes


def unlike(ours: Mapping[str, str], theirs: Mapping[str, str], whose: str = "audited run's") -> list[str]:
    """The keys in which two recipes differ."""
    keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    return [f"{key!r}: another one than the {whose}" for key in keys]


def _copies(ours: Mapping, weights: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Other models with the same tensors; an exact unlearning makes the same ones of every network."""
    allowed = {TREATED, *([AUDITED] if ours.get("forgetting") == "exact" else [])}
    return [
        f"its weights are those of {name}"
        for name, entry in weights.items()
        if name not in allowed and entry["tensors_sha256"] == weights[TREATED]["tensors_sha256"]
    ]


def _differences(ours: Mapping, theirs: Mapping) -> Iterator[str]:
    yield from unlike(ours["recipe"], theirs["recipe"])
    for name in ("steps", "backward_slices"):
        one, other = (run["cost"].get(name) for run in (ours, theirs))
        if one is None or one != other:
            yield f"{name}: {other}, the audited run's {one}"
    if ours["datalist"] != theirs["datalist"]:
        yield "datalist: another one than the audited run's"
    for role in ("retain", "forget"):
        files = [run["forgotten"] if role == "forget" else run["data"].get(role) for run in (ours, theirs)]
        if files[0] is None or files[0] != files[1]:
            yield f"{role} files: other ones than the audited run's, or without a hash"
    if theirs["opened"] is None:
        yield NOT_SHOWN
        return
    forget = set(theirs["forgotten"])
    if forget & {*(theirs["data"].get("retain") or ()), *theirs["opened"]["scans"]}:
        yield "it opened forget files, which would teach the oracle"
    if set(theirs["opened"]["weights"]) - {theirs["weights_in"], theirs["prior"]}:
        yield "it read other weights than the oracle's, which would teach the oracle"
