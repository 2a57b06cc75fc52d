"""The settings of every verb: their types and ranges, declared once and checked before any work.

A value that is an expression or a reference of the configuration is taken as it is. `Fire`, which reads the command
line for MONAI, leaves words such as ``false`` and ``none`` text; where a setting can be true, false or nothing, they
are understood as such. Where it can be a text, it is the text as it was typed.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from scripts.run.kinds import (
    ADDRESS,
    ANY_NUMBER,
    COMPONENT,
    DEVICE,
    EXPRESSION,
    FLAG,
    FRACTION,
    FROM_ZERO,
    HANDLERS,
    LIST,
    MAPPING,
    NONE,
    NOTHING,
    PATH,
    REQUESTS,
    SEED,
    TEXT,
    Kind,
    above,
    is_expression,
    is_number,
    list_of,
    mapping_of,
    one_of,
    unlike,
    whole,
    within,
)

WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "none": None, "null": None}
UNREAD = object()  # of no kind

COMMON: dict[str, Kind] = {
    "verb": TEXT,
    "output_dir": PATH,
    "overwrite": FLAG,
    "seed": SEED,
    "device": DEVICE | NOTHING,
    "precision": one_of("fp32", "bf16", "fp16"),
    "datalist": PATH | NONE,
    "forget_request": REQUESTS | NONE,
    "check_values": FLAG,
    "resume": FLAG,
    "batch_size": whole(1),
    "num_workers": whole(0, 1024),
    "train_epochs": whole(1),
    "unlearn_epochs": whole(1),
    "learning_rate": above(0, 1000),
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
    **dict.fromkeys(("run_dir", "original_weights"), PATH | NONE),
    "optimizer": COMPONENT,
    "lr_scheduler": COMPONENT,
    "handlers": HANDLERS,
}
FILE_OR_NONE = PATH | NONE
HTML = Kind(
    "HTML, as scripts.audit.audit_section gives it",
    lambda v: isinstance(v, str) and v.strip().startswith("<"),
)
OF_VERB: dict[str, dict[str, Kind]] = {
    "train": {"oracle": FLAG, "forget_only": FLAG, "training_share": FRACTION},
    "unlearn": {
        "weights": FILE_OR_NONE,
        "prior": FILE_OR_NONE,
        "declared_prior": mapping_of(TEXT, 2) | NOTHING,
        "prior_passes": whole(1),
        "oracle_weights": FILE_OR_NONE,
        "evaluate_models": FLAG,
        "epoch_weights": FLAG,
        "erosion_limit": above(0) | NOTHING,
        "budget": above(0, 1000) | NOTHING,
        "passes_per_step": above(0, 1000),
        "teacher_steps": whole(1),
        "method_name": TEXT,
        "method": HANDLERS,
    },
    "evaluate": {
        "sections": unlike(list_of(one_of("training", "validation", "test"), 1)) | NOTHING,
        "weights": PATH | mapping_of(FILE_OR_NONE, 1),
    },
    "preview": {},
    "replay": {"run_dir": FILE_OR_NONE},
    "simulate": {
        "images": replace(list_of(MAPPING, 1), names_files=True),
        "num_coils": whole(1, 1024),
        "snr": above(0, 1e9),
        "matrix": list_of(whole(8, 4096), 2) | NOTHING,
        "splits": mapping_of(FROM_ZERO, 1) | NOTHING,
        "gap": whole(0),
        "slices_per_volume": whole(1),
    },
    "audit": {
        "weights": PATH,
        "unlearned_weights": FILE_OR_NONE,
        "run_record": FILE_OR_NONE,
        "oracle_weights": FILE_OR_NONE,
        "oracle_seeds": list_of(PATH),
        "treated_oracle_weights": FILE_OR_NONE,
        "query_weights": FILE_OR_NONE,
        "calibration_weights": FILE_OR_NONE,
        "reference_weights": list_of(PATH),
        "likelihood_rate": FRACTION,
        "oracle_tuned": FLAG | NOTHING,
        "measures": HANDLERS,
        "full": FLAG,
        "gates": list_of(MAPPING, 1),
        "statistics": COMPONENT,
        "subgroups": list_of(TEXT),
        "relearning_steps": whole(0),
        "resurfacing_share": FROM_ZERO,
        "training_record": FILE_OR_NONE,
        "certificate": FLAG,
        "identifier_key": FILE_OR_NONE,
        "signing_key": FILE_OR_NONE,
    },
    "protocol": {
        "weights": FILE_OR_NONE,
        "oracle_weights": PATH | list_of(PATH) | NONE,
        "oracle_seeds": unlike(list_of(SEED)),
        "methods": unlike(list_of(TEXT, 1)),
        "fraction_methods": unlike(list_of(TEXT)),
        "retain_fractions": unlike(list_of(FRACTION)),
        "budget_methods": unlike(list_of(TEXT)),
        "budgets": unlike(list_of(above(0, 1000))),
        "further_training": above(0, 1000) | NOTHING,
        "seeds": unlike(list_of(SEED, 1)),
        "train_settings": MAPPING | NOTHING,
        "unlearn_settings": MAPPING | NOTHING,
        "devices": list_of(DEVICE, 1) | NOTHING,
        "n_jobs": whole(1, 4096),
        "threads": whole(1, 4096),
        "engine": one_of("local", "dask"),
        "scheduler": ADDRESS | NOTHING,
        "viewer_megabytes": above(0),
        "audit_section": HTML | NOTHING,
        "configs": PATH,
    },
    "ship": {
        "name": TEXT,
        "profile": one_of("inference", "full"),
        "run_dir": FILE_OR_NONE,
        "weights": FILE_OR_NONE,
        "network": COMPONENT | NOTHING,
        "version": TEXT | NOTHING,
        "changelog": TEXT | NOTHING,
        "data_source": TEXT | NOTHING,
        "data_license": FILE_OR_NONE,
        "audit_dir": FILE_OR_NONE,
    },
    "inference": {
        "bundle_root": PATH,
        "dataset_dir": PATH | list_of(PATH, 1),
        "formats": one_of("nifti", "dicom") | list_of(one_of("nifti", "dicom"), 1),
        "weights": PATH,
        "worklist": FILE_OR_NONE,
        "retrospective_mask": COMPONENT | NOTHING,
        "remove_oversampling": FLAG,
        "network_def": COMPONENT,
    },
    "serve": {
        "host": TEXT,
        "port": whole(0, 65535),
        "router": COMPONENT | NOTHING,
        "raw_days": FROM_ZERO,
        "metrics_port": whole(0, 65535) | NOTHING,
        "log_format": one_of("text", "json"),
        "pixels": one_of("float32", "int16"),
        "protocols": MAPPING | NOTHING,
        "limits": MAPPING,
    },
    "send": {"source": PATH, "patience_s": FROM_ZERO, "router": COMPONENT},
}
# arguments of components, by name: an override such as network#num_cascades is checked, whether or not the run uses it
OWN_NETWORKS: dict[str, Kind] = {
    **dict.fromkeys(("num_cascades", "chans", "sens_chans"), whole(1, 4096)),
    **dict.fromkeys(("pools", "sens_pools"), whole(1, 10)),
}
ARGUMENTS: dict[str, Kind] = {
    "acceleration": above(1),
    "center_fraction": within(0, 1),
    **dict.fromkeys(("forget_weight", "retain_weight", "ssim_weight", "l1_weight"), FROM_ZERO),
    **dict.fromkeys(("transfer", "lr", "adam_lr", "max_norm"), above(0, 1e6)),
    **dict.fromkeys(("max_epochs", "interval", "save_interval"), whole(1)),
    "confidence": within(0, 1),
    "samples": whole(100),
    "port": whole(1, 65535),
}


def settings_of(verb: str) -> dict[str, Kind]:
    """Key -> kind of every setting that a verb may have; overlays may add the settings of other verbs.

    >>> settings_of("train")["oracle"].expected
    'true or false'
    """
    others = {key: kind for kinds in OF_VERB.values() for key, kind in kinds.items()}
    kinds = {**others, **COMMON, **OF_VERB.get(verb, {})}
    return {key: kind for key, kind in kinds.items() if key != verb}  # under the verb's name stands what it runs


def read_settings(
    verb: str, config: Mapping[str, Any], declared: Mapping[str, Any], typed: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Check a configuration; return what has to be changed in it: id -> the value that is meant.

    Args:
        verb: The verb whose settings they are.
        config: The configuration being run, overrides applied, expressions unresolved.
        declared: Content of the config files, whose true, false and numbers within components fix the type there.
        typed: Setting -> its text on the command line.

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
    for key, text in (typed or {}).items():
        plain = "#" in text and not is_expression(text) and text[:1] not in ("[", "{")
        if plain and not (key in kinds and kinds[key].fits(_literal(text))):
            problems.append(f"'{key}': expected {kinds[key].expected if key in kinds else 'no #'}, found {text!r}")
    for key, found in config.items():
        value = found
        if key in kinds and typed and key in typed:
            meant = _literal(typed[key])
            if kinds[key].fits(meant) and (kinds[key].names_files or not isinstance(meant, (list, dict))):
                value = meant
        if key in kinds and kinds[key].names_files:
            value = _at_home(value)
        if is_expression(value):
            continue
        if value != found:
            changes[key] = value
        kind = kinds.get(key) or _as_declared(declared.get(key))
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


def _literal(text: str) -> Any:
    """What a text of the command line stands for: itself, or the list, mapping or quoted text that it writes."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return ast.literal_eval(text) if text[:1] in ("[", "{", "(", "'", '"') else text
    except (ValueError, SyntaxError):
        return UNREAD if text[0] in "[{" else text  # such as [a, b], which Fire reads


def _at_home(value: Any) -> Any:
    """Paths with the home folder in the place of ``~``."""
    if isinstance(value, list):
        return [_at_home(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _at_home(item) if isinstance(item, str) else item for key, item in value.items()}
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~") else value


def _as_declared(declared: Any) -> Kind | None:
    """What has no kind of its own stays a component, an expression, a mapping or a list, as the config files have it.

    Otherwise ``--run_folder null`` would open no folder, and ``--retain_test []`` would evaluate nothing.
    """
    kinds = (COMPONENT, EXPRESSION, MAPPING, LIST)
    return next((kind for kind in kinds if kind.fits(declared)), None)


def _unnamed(config: Mapping[str, Any], declared: Mapping[str, Any]) -> list[str]:
    """A method that was replaced under its old name: the record would state another method than the one that ran."""
    if not isinstance(config.get("method") or [], list):
        return []  # which is told already
    found, stated = (
        [part.get("_target_") if isinstance(part, Mapping) else part for part in method]
        for method in (config.get("method") or [], declared.get("method") or [])
    )
    if found != stated and config.get("method_name") == declared.get("method_name"):
        return ["'method_name': expected a name of its own for the 'method' given, found none; the record states it"]
    return []


def _leaves(declared: Any, value: Any, name: str) -> Iterator[tuple[str, Kind, Any]]:
    """Values within a mapping or list that have a kind: by the argument's name, or by the declared counterpart."""
    if isinstance(value, Mapping):
        component = COMPONENT.fits(value)
        kinds = _arguments(name.partition("#")[0], str(value.get("_target_", "scripts.")))
        same = isinstance(declared, Mapping) and declared.get("_target_") == value.get("_target_")
        for key, item in value.items():
            if component and key in kinds:
                if not is_expression(item) and item is not None:
                    yield f"{name}#{key}", kinds[key], item
            else:
                yield from _leaves(declared.get(key) if same else None, item, f"{name}#{key}")
    elif isinstance(value, list):
        same = isinstance(declared, list) and len(declared) == len(value)
        for index, item in enumerate(value):
            yield from _leaves(declared[index] if same else None, item, f"{name}#{index}")
    elif not is_expression(value) and isinstance(declared, bool):
        yield name, FLAG, value
    elif not is_expression(value) and is_number(declared):
        yield name, ANY_NUMBER, value


def _arguments(block: str, target: str) -> Mapping[str, Kind]:
    """The arguments that a component's kind is known of; those of other people's networks are their own affair."""
    if block not in ("network", "network_def"):
        return ARGUMENTS
    return OWN_NETWORKS if target.startswith("scripts.") else {}


def _unwritable(key: str, value: Any) -> list[str]:
    """What a record, which is JSON, could not hold: such as a date that YAML made of a text without quotes."""
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        return [f"'{key}': expected numbers, texts, lists and mappings: {error}; a date needs quotes"]
    return []
