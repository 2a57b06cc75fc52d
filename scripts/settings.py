"""The settings of every verb: their types and ranges, declared once and checked before any work.

A value that is an expression or a reference of the configuration is taken as it is. `Fire`, which reads the command
line for MONAI, leaves words such as ``false`` and ``none`` text; where a setting can be true, false or nothing, they
are understood as such.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "none": None, "null": None}


@dataclass(frozen=True)
class Kind:
    """What a setting may be.

    Attributes:
        expected: The words of the error message.
        fits: Whether a value is of this kind.
    """

    expected: str
    fits: Callable[[Any], bool]

    def __or__(self, other: Kind) -> Kind:
        return Kind(f"{self.expected} or {other.expected}", lambda value: self.fits(value) or other.fits(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def whole(low: int, high: int = 2**63 - 1) -> Kind:
    """Whole numbers of a range; 4.0 is none."""
    upper = f" to {high}" if high < 2**31 else ""
    return Kind(f"a whole number from {low}{upper}", lambda v: type(v) is int and low <= v <= high)


def above(low: float, high: float = math.inf) -> Kind:
    """Numbers above one and up to another."""
    upper = f" and at most {high:g}" if high < math.inf else ""
    return Kind(f"a number above {low:g}{upper}", lambda v: _is_number(v) and low < v <= high)


def one_of(*values: str) -> Kind:
    """One of some words."""
    return Kind(f"one of {', '.join(values)}", lambda v: isinstance(v, str) and v in values)


def list_of(kind: Kind, low: int = 0) -> Kind:
    """Lists whose every item is of a kind, with at least ``low`` items."""
    least = f" of at least {low}" if low else ""
    return Kind(
        f"a list{least}, each {kind.expected}",
        lambda v: isinstance(v, (list, tuple)) and len(v) >= low and all(kind.fits(item) for item in v),
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != "" and value.isprintable()


def _is_path(value: Any) -> bool:
    return _is_text(value) and value == value.strip() and "::" not in value  # MONAI turns a "#" in a value into "::"


def _is_device(value: Any) -> bool:
    try:
        device = torch.device(value)
    except (RuntimeError, TypeError):
        return False
    return device.type != "cuda" or (device.index or 0) < torch.cuda.device_count()


FLAG = Kind("true or false", lambda v: isinstance(v, bool))
NOTHING = Kind("null", lambda v: v is None)
NONE = Kind("null or false", lambda v: v is None or v is False)
TEXT = Kind("a text", _is_text)
DEVICE = Kind("a device of this machine, such as cpu or cuda:0", _is_device)
PATH = Kind("a path without '#'", _is_path)
MAPPING = Kind("a mapping", lambda v: isinstance(v, Mapping))
COMPONENT = Kind("a mapping with '_target_'", lambda v: isinstance(v, Mapping) and isinstance(v.get("_target_"), str))
HANDLERS = Kind("a list of components", lambda v: isinstance(v, list) and all(_is_handler(item) for item in v))
REQUEST = Kind("a file or a mapping", lambda v: _is_path(v) or isinstance(v, Mapping))
REQUESTS = REQUEST | list_of(REQUEST, 1)
SEED = whole(0, 2**32 - 1)
FRACTION = above(0, 1)


def _is_handler(value: Any) -> bool:
    return COMPONENT.fits(value) or is_expression(value)


def is_expression(value: Any) -> bool:
    """Whether a value is resolved by MONAI's parser: an expression, a reference or a macro."""
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


COMMON: dict[str, Kind] = {
    "verb": TEXT,
    "output_dir": PATH,
    "overwrite": FLAG,
    "seed": SEED,
    "device": DEVICE,
    "precision": one_of("fp32", "bf16", "fp16"),
    "datalist": PATH,
    "forget_request": REQUESTS | NONE,
    "check_values": FLAG,
    "resume": FLAG,
    "batch_size": whole(1),
    "num_workers": whole(0, 1024),
    "train_epochs": whole(1),
    "unlearn_epochs": whole(1),
    "learning_rate": above(0),
    "val_interval": whole(1),
    "retain_fraction": FRACTION,
    "ledger": PATH | NONE,
    "enter_in_ledger": FLAG,
    "older_weights": FLAG,
    "tf32": FLAG,
    "deterministic": FLAG,
    "slices_per_measure": whole(1),
    "network": COMPONENT,
    "mask": COMPONENT,
    "loss_function": COMPONENT,
    "optimizer": COMPONENT,
    "lr_scheduler": COMPONENT,
    "handlers": HANDLERS,
}
FILE_OR_NONE = PATH | NONE
OF_VERB: dict[str, dict[str, Kind]] = {
    "train": {"oracle": FLAG, "forget_only": FLAG, "training_share": FRACTION},
    "unlearn": {
        "weights": PATH,
        "oracle_weights": FILE_OR_NONE,
        "evaluate_models": FLAG,
        "epoch_weights": FLAG,
        "short_audit": FLAG,
        "erosion_limit": above(0) | NOTHING,
        "budget": above(0) | NOTHING,
        "passes_per_step": above(0),
        "teacher_steps": whole(1),
        "method_name": TEXT,
        "method": HANDLERS,
        "default_methods": MAPPING,
    },
    "evaluate": {
        "sections": list_of(one_of("training", "validation", "test"), 1) | NOTHING,
        "weights": PATH | MAPPING,
    },
    "simulate": {
        "images": list_of(MAPPING, 1),
        "num_coils": whole(1, 1024),
        "snr": above(0),
        "matrix": list_of(whole(8, 4096), 2) | NOTHING,
        "splits": MAPPING | NOTHING,
        "gap": whole(0),
        "slices_per_volume": whole(1),
    },
    "audit": {
        "weights": PATH,
        "unlearned_weights": PATH,
        "run_record": FILE_OR_NONE,
        "oracle_weights": FILE_OR_NONE,
        "oracle_seeds": list_of(PATH),
        "treated_oracle_weights": FILE_OR_NONE,
        "query_weights": FILE_OR_NONE,
        "calibration_weights": FILE_OR_NONE,
        "reference_weights": list_of(PATH),
        "likelihood_rate": FRACTION,
        "oracle_tuned": FLAG | NOTHING,
        "gates": list_of(MAPPING, 1),
        "statistics": COMPONENT,
        "subgroups": list_of(TEXT),
        "relearning_steps": whole(0),
        "resurfacing_share": Kind("a number from 0", lambda v: _is_number(v) and v >= 0),
        "certificate": FLAG,
        "identifier_key": FILE_OR_NONE,
        "signing_key": FILE_OR_NONE,
    },
    "protocol": {
        "weights": FILE_OR_NONE,
        "oracle_weights": PATH | list_of(PATH) | NONE,
        "oracle_seeds": list_of(SEED),
        "methods": list_of(TEXT, 1),
        "fraction_methods": list_of(TEXT),
        "retain_fractions": list_of(FRACTION),
        "seeds": list_of(SEED, 1),
        "dynamics": FLAG,
        "train_settings": MAPPING | NOTHING,
        "unlearn_settings": MAPPING | NOTHING,
        "devices": list_of(DEVICE, 1) | NOTHING,
        "n_jobs": whole(1, 4096),
        "threads": whole(1, 4096),
        "viewer_megabytes": above(0),
        "audit_section": FILE_OR_NONE,
    },
    "ship": {
        "name": TEXT,
        "run_dir": FILE_OR_NONE,
        "weights": FILE_OR_NONE,
        "network": COMPONENT | NOTHING,
        "version": TEXT | NOTHING,
        "changelog": TEXT | NOTHING,
        "data_source": TEXT | NOTHING,
        "data_license": FILE_OR_NONE,
    },
    "preview": {"default_methods": MAPPING},
    "inference": {
        "bundle_root": PATH,
        "dataset_dir": PATH | list_of(PATH, 1),
        "formats": one_of("nifti", "dicom") | list_of(one_of("nifti", "dicom"), 1),
        "weights": PATH,
        "retrospective_mask": COMPONENT | NOTHING,
        "remove_oversampling": FLAG,
        "network_def": COMPONENT,
    },
}


def settings_of(verb: str) -> dict[str, Kind]:
    """Key -> kind of every setting that a verb may have; overlays may add the settings of other verbs.

    >>> settings_of("train")["oracle"].expected
    'true or false'
    """
    others = {key: kind for kinds in OF_VERB.values() for key, kind in kinds.items()}
    kinds = {**others, **COMMON, **OF_VERB.get(verb, {})}
    return {key: kind for key, kind in kinds.items() if key != verb}  # under the verb's name stands what it runs


def read_settings(verb: str, config: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """Check a configuration; return what has to be changed in it: id -> the value that a word stands for.

    Args:
        verb: The verb whose settings they are.
        config: The configuration being run, overrides applied, expressions unresolved.
        declared: Content of the config files, whose true, false and numbers within components fix the type there.

    Raises:
        ValueError: naming every setting that does not fit, what was expected and what was found.

    >>> read_settings("train", {"oracle": "no", "seed": 3}, {})
    {'oracle': False}
    >>> read_settings("train", {"train_epochs": 1.5}, {})
    Traceback (most recent call last):
    ...
    ValueError: 'train_epochs': expected a whole number from 1, found 1.5
    """
    kinds = settings_of(verb)
    changes, problems = {}, []
    for key, value in config.items():
        if is_expression(value):
            continue
        kind = kinds.get(key)
        pairs = [(key, kind, value)] if kind is not None else []
        if key not in ("_meta_", "imports") and (kind is None or isinstance(value, (Mapping, list))):
            pairs += list(_leaves(declared.get(key), value, key))
        for name, expected, found in pairs:
            meant = WORDS.get(found.strip().lower(), found) if isinstance(found, str) else found
            if meant is not found and expected.fits(meant):
                changes[name] = meant
            elif not expected.fits(found):
                problems.append(f"'{name}': expected {expected.expected}, found {found!r}")
        problems += _unwritable(key, value)
    problems += _unnamed(config, declared)
    if problems:
        raise ValueError("; ".join(problems))
    return changes


def _unnamed(config: Mapping[str, Any], declared: Mapping[str, Any]) -> list[str]:
    """A method that was replaced under its old name: the record would state another method than the one that ran."""
    found, stated = (
        [part.get("_target_") if isinstance(part, Mapping) else part for part in method]
        for method in (config.get("method") or [], declared.get("method") or [])
    )
    if found != stated and config.get("method_name") == declared.get("method_name"):
        return ["'method_name': expected a name of its own for the 'method' given, found none; the record states it"]
    return []


def _leaves(declared: Any, value: Any, name: str) -> Iterator[tuple[str, Kind, Any]]:
    """Values within a mapping or list whose declared counterpart is true, false or a number, with the kind it fixes."""
    if isinstance(declared, Mapping) and isinstance(value, Mapping):
        if declared.get("_target_") == value.get("_target_"):
            for key in declared.keys() & value.keys():
                yield from _leaves(declared[key], value[key], f"{name}#{key}")
    elif isinstance(declared, list) and isinstance(value, list) and len(declared) == len(value):
        for index, (one, other) in enumerate(zip(declared, value, strict=True)):
            yield from _leaves(one, other, f"{name}#{index}")
    elif not is_expression(value) and isinstance(declared, bool):
        yield name, FLAG, value
    elif not is_expression(value) and _is_number(declared):
        yield name, Kind("a number", _is_number), value


def _unwritable(key: str, value: Any) -> list[str]:
    """What a record, which is JSON, could not hold: such as a date that YAML made of a text without quotes."""
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        return [f"'{key}': expected numbers, texts, lists and mappings: {error}; a date needs quotes"]
    return []
