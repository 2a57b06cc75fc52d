"""The oracle treated alike: the audited run's unlearning, run on the network that never saw the forget set.

Unlearning U of a set S is judged by U(S, A(D)) beside U(∅, A(D without S)): the same algorithm on the network that
was trained without S. What U does to any network, by another optimiser or augmentation, is then no difference between
the two. Source: Sekhari, Acharya, Kamath and Suresh, Remember What You Want to Forget: Algorithms for Machine
Unlearning, NeurIPS 2021, definition of unlearning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.audit.experiment import AUDITED, CALIBRATION, ORACLE, QUERY, TREATED
from scripts.run.config import TRACKING, running_config
from scripts.run.files import json_sha256

# what may differ between two runs of one unlearning: where they lie and run, and what is compared by its hash or count
FREE = {
    "_meta_", "imports", "output_dir", "device", "num_workers", "datalist", "forget_request", "weights",
    "oracle_weights", "ledger", "enter_in_ledger", "older_weights", "check_values", "evaluate_models", "short_audit",
    "epoch_weights", "resume", "overwrite", "training_passes", "like", *TRACKING,
}  # fmt: skip
# parts that are known to read retained data alone and no weights but those that the run starts from
HARMLESS = re.compile(
    r"scripts\.(data\.\w+|requests\.(RetainSubsetSampler|retain_subset\.Stratified)|training\.PassCounter|unlearning\."
    r"(Anneal|AugmentedSlices|BlockHealing|FastTraining|L1Penalty|Original|Perturb|PsnrTerm|RetainDistillation|WeightAverage))"
)
REMEMBERING = ("BlockHealing", "Original", "RetainDistillation")  # these pass on what the run started from
ENDS = {"data", "network", "weights", "device", "train#epoch_length"}  # compared otherwise, or a number
REFERENCE = re.compile(r"[@%](\w+(?:(?:#|::)\w+)*)")  # a resolved configuration has "::" for "#"
OTHER_DATA = re.compile(r"@data\b(?!\.(retain|validation|held_out)\b)")
CODE = re.compile(r"[('\"\[]")  # in an expression: more than references, attributes and arithmetic
START = "$scripts.networks.load_weights(@network, @weights)"  # the one step of a run that may load weights


def treatment(record: Mapping[str, Any]) -> dict:
    """What a record of ``unlearn`` says about how it treated its weights, without a name or a path in it.

    Args:
        record: The record that unlearn wrote.

    Returns:
        ``recipe``: key of the configuration -> SHA-256 of its content, but for :data:`FREE`; ``steps`` and
        ``backward_slices``; ``reads``: what of the method is not known to keep to retained data and to the weights
        that the run starts from; ``keeps_nothing``: whether all weights are drawn afresh and nothing is passed on.
    """
    configuration, cost = record.get("configuration") or {}, record.get("cost") or {}
    return {
        "recipe": recipe_of(configuration),
        **{name: cost.get(name) for name in ("steps", "backward_slices")},
        "reads": other_reads(configuration),
        "keeps_nothing": keeps_nothing(configuration.get("method") or []),
    }


def recipe_of(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Key -> SHA-256 of everything in a configuration that decides what a run does."""
    return {key: json_sha256(value) for key, value in sorted(configuration.items()) if key not in FREE}


def other_reads(configuration: Mapping[str, Any]) -> list[str]:
    """What of the method and its batches is not known to keep to retained data and to the weights at the start.

    Followed from the method and the trainer's batches along every reference of the configuration; what is not known
    counts as reading, and so does a step that loads weights beside the first.

    >>> other_reads({"method": [{"_target_": "scripts.unlearning.GainTarget", "forget_loader": "@forget_loader"}],
    ...              "forget_loader": {"_target_": "scripts.data.TrainingLoader", "volumes": "$@data.forget"}})
    ['method: scripts.unlearning.GainTarget', 'forget_loader: $@data.forget']
    """
    waiting, seen, fresh = ["method", "train#dataloader"], set(ENDS), _at(configuration, "network#_target_")
    steps = [(name, text) for name in ("initialize", "unlearn") for _, text in _texts(configuration.get(name))]
    found = [f"{name}: {text}" for name, text in steps if "load" in text and text != START]
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        for key, text in _texts(_at(configuration, name)):
            waiting += [reference.replace("::", "#") for reference in REFERENCE.findall(text)]
            expression = text.replace("@data.held_out(", "").replace("len(", "")
            unknown = key == "_target_" and text != fresh and not HARMLESS.fullmatch(text)
            if unknown or OTHER_DATA.search(text) or (text.startswith("$") and CODE.search(expression)):
                found.append(f"{name}: {text}")
    return found


def keeps_nothing(method: Sequence[Any]) -> bool:
    """Whether a method draws all weights afresh and passes nothing on from those that it starts with.

    >>> keeps_nothing([{"_target_": "scripts.unlearning.Perturb", "noise": {"sens_net.*": 0.0, "*": 1.0}}])
    False
    """
    parts = {str(part["_target_"]).rpartition(".")[2]: part for part in method if isinstance(part, Mapping)}
    noise = parts.get("Perturb", {}).get("noise") or {}
    afresh = "*" in noise and all(share == 1 for share in noise.values())
    return afresh and len(parts) == len(method) and not parts.keys() & set(REMEMBERING)


def treated_problems(runs: Mapping[str, Sequence[Mapping]], weights: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What speaks against a treated oracle; empty where it is the audited run's unlearning, run on the oracle.

    Args:
        runs: model -> :func:`scripts.audit.provenance.origin` of its weights.
        weights: model -> :func:`scripts.audit.provenance.weights_hashes`.
    """
    ours, theirs = (next(iter(runs.get(name) or []), None) for name in (AUDITED, TREATED))
    if theirs is None:
        return ["no record beside its weights"]
    if ours is None or not ours["treatment"]:
        return ["no record of the audited run to compare it with"]
    if theirs["verb"] != "unlearn" or theirs["weights_in"] != weights.get(ORACLE, {}).get("sha256"):
        return ["its record is not one of unlearn on the oracle's weights"]
    problems = [] if theirs["weights_out"] == weights[TREATED]["sha256"] else ["its record is of other weights"]
    return [*problems, *_copies(ours, weights), *_differences(ours, theirs)]


def left_out(problems: Mapping[str, Sequence[str]]) -> set[str]:
    """The models by which nothing is judged: a treated oracle that is not shown to be one."""
    return {TREATED} if problems.get(TREATED) else set()


def passes_alike(record: str | Path) -> int:
    """The passes of training by which an audited run went, for the run that makes its treated oracle.

    Args:
        record: The record of the audited run.

    Raises:
        FileNotFoundError, ValueError: no such record; or the run that is about to start is not the audited one's
            unlearning, or may read forget data.
    """
    if not Path(record).is_file():
        raise FileNotFoundError(f"'like': expected the record of the run to be audited, found no such file: {record}")
    try:
        facts = json.loads(Path(record).read_text(encoding="utf-8"))
        ours, passes = recipe_of(facts["configuration"]), int(facts["training_passes"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'like': {record}: expected the record of the run to be audited, found {error!r}") from error
    configuration = running_config()
    problems = [*_unlike(ours, recipe_of(configuration)), *_teaches(other_reads(configuration))]
    if problems:
        raise ValueError(f"treated oracle: {record}: {'; '.join(problems)}")
    return passes


def _copies(ours: Mapping, weights: Mapping[str, Mapping[str, str]]) -> list[str]:
    allowed = {TREATED, QUERY, CALIBRATION, *([AUDITED] if ours["treatment"]["keeps_nothing"] else [])}
    return [
        f"its weights are those of {name}"
        for name, entry in weights.items()
        if name not in allowed and entry["tensors_sha256"] == weights[TREATED]["tensors_sha256"]
    ]


def _differences(ours: Mapping, theirs: Mapping) -> Iterator[str]:
    one, other = ours["treatment"], theirs["treatment"]
    yield from _unlike(one["recipe"], other["recipe"])
    for name in ("steps", "backward_slices"):
        if one[name] is None or one[name] != other[name]:
            yield f"{name}: {other[name]}, the audited run's {one[name]}"
    if ours["datalist"] != theirs["datalist"]:
        yield "datalist: another one than the audited run's"
    for role in ("retain", "forget"):
        files = [run["data"].get(role) for run in (ours, theirs)]
        if files[0] is None or files[0] != files[1]:
            yield f"{role} files: other ones than the audited run's, or without a hash"
    if set(theirs["data"].get("retain") or ()) & set(theirs["data"].get("forget") or ()):
        yield "forget files are among its retain files"
    yield from _teaches(other["reads"])


def _unlike(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    return [f"'{key}': another one than the audited run's" for key in keys]


def _teaches(reads: Collection[str]) -> list[str]:
    what = "the method may read forget data or other weights, which it would teach the oracle"
    return [f"{what} ({', '.join(reads)})"] if reads else []


def _at(configuration: Mapping[str, Any], name: str) -> Any:
    node: Any = configuration
    for key in name.split("#"):
        if isinstance(node, list):
            node = node[int(key)] if key.isdigit() and int(key) < len(node) else None
        else:
            node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a part of a configuration, with the key under which it stands."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _texts(value, str(name))
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, key)
    elif isinstance(node, str):
        yield key, node
