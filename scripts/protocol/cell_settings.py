"""What a study sets in the verbs that a cell runs, and what the cell's result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from scripts.protocol.plan import DEFAULT, FURTHER, UNLEARNED, Cell
from scripts.run.config import refuse_unknown_keys
from scripts.run.files import file_sha256

# what a cell decides itself; every other key that the study shares with a verb goes to the verb as it stands
OWN_KEYS = {
    *(
        "imports",
        "verb",
        "initialize",
        "finalize",
        "overwrite",
        "run_folder",
        "resume",
        "run",
        "data",
        "cohorts",
        "output_dir",
        "seed",
        "device",
        "check_values",
        "name",
        "record",
    ),
    *("datalist", "forget_request", "weights", "oracle", "oracle_weights", "forget_only", "retain_fraction"),
    *("evaluate_models", "epoch_weights", "method", "method_name"),
}


def verb_settings(study: Mapping[str, Any], verb: str, files: Sequence[str]) -> dict[str, Any]:
    """What the study sets in a verb's config, unresolved.

    These are the study's keys that the verb declares too (``network``, ``mask``, ``train_epochs`` and so on), and
    above them the study's ``train_settings`` or ``unlearn_settings``.

    Raises:
        ValueError: a key of these settings that the verb does not declare.
    """
    declared = ConfigParser.load_config_files(files)
    own = dict(study.get(f"{verb}_settings") or {})
    try:
        refuse_unknown_keys(declared, {key.replace("::", "#").partition("#")[0]: None for key in own})
    except ValueError as error:
        raise ValueError(f"protocol: '{verb}_settings': {error}") from None
    return {key: value for key, value in study.items() if key in declared and key not in OWN_KEYS} | own


def cell_settings(cell: Cell, study: Mapping[str, Any], datalist: str, request: Any, configs: Path) -> dict[str, Any]:
    """What the result of a cell depends on, as plain JSON values.

    Args:
        cell: The cell.
        study: The configuration of the study, overrides applied, references unresolved.
        datalist: Path of the datalist.
        request: The forget request, a mapping or a file.
        configs: Folder of the verbs' configs.
    """
    verbs = ["unlearn", "evaluate"] if cell.role == UNLEARNED else ["evaluate"] if cell.given else ["train", "evaluate"]
    files = {verb: [str(configs / f"{verb}.yaml")] for verb in verbs}
    if cell.role == UNLEARNED and cell.method != DEFAULT:
        files["unlearn"].append(str(configs / "methods" / f"{cell.method}.yaml"))
    if cell.further_training:
        files["further_training"] = [str(configs / name) for name in ("unlearn.yaml", f"methods/{FURTHER}.yaml")]
    settings: dict[str, Any] = {
        "role": cell.role,
        "method": cell.method,
        "fraction": cell.fraction,
        "seed": cell.seed,
        "epochs": cell.epochs,
        "datalist_sha256": file_sha256(datalist),
        "forget_request": ConfigParser.load_config_files(str(request)) if isinstance(request, (str, Path)) else request,
        "given_sha256": file_sha256(cell.given) if cell.given else None,
        "configs_sha256": {verb: _digest(ConfigParser.load_config_files(paths)) for verb, paths in files.items()},
        **{verb: verb_settings(study, verb, files[verb]) for verb in verbs},
    }
    if cell.budget:
        settings["unlearn"]["budget"] = cell.budget
    if cell.further_training:
        further = verb_settings(study, "unlearn", files["further_training"])
        settings["further_training"] = {**further, "retain_fraction": 1.0, "budget": cell.further_training}
    return json.loads(json.dumps(settings, default=str))


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
