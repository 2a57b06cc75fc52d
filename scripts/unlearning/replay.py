"""Replay: an unlearning is done again from its record, and the bits are compared."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from scripts.run.config import bundle_root, differences, run_verb
from scripts.run.files import file_sha256, write_text
from scripts.run.source import code_in, refuse_code

logger = logging.getLogger(__name__)
SAME, OTHER, NOT_COMPARABLE = "same bits", "other bits", "not comparable"
FACTS = (
    "verb",
    "method",
    "seed",
    "budget",
    "training_passes",
    "slices_per_step",
    "retain_fraction",
    "retain_selection",
)
"""What two records of one run state alike, beside what was read."""


def replay(run: str | Path, output_dir: str | Path, **changes: Any) -> dict[str, Any]:
    """Do the unlearning of a run folder again, and compare the weights by their SHA-256.

    The command is the recorded one: the same config files, the same settings. The original weights and the oracle are
    not needed and not read; the ledger, where it is there, says which scans to leave out, as it did then.

    Args:
        run: The folder that ``unlearn`` wrote.
        output_dir: Where the second run goes; what came out is written beside it, into ``replay.json``.
        changes: Settings that say where things are now, e.g. ``datalist`` and ``prior``.

    Returns:
        ``verdict``, one of ``same bits``, ``other bits`` and, where another processor or other packages computed and
        ``deterministic`` was off, ``not comparable``; ``weights``, both hashes; ``differences``, what the two records
        do not state alike.

    Raises:
        FileNotFoundError, ValueError: No record, or one of a run that forgets approximately; a config file, a weight or
            a record that is not what it was; code that neither the bundle nor this project brings.
    """
    folder = Path(run)
    record = _record(folder)
    files = [_file(folder, entry) for entry in record["command"]["files"]]
    _refuse_foreign_code(folder / "unlearned.json", files, record["command"]["changes"])
    settings = {
        **record["command"]["changes"],
        **dict.fromkeys(("weights", "oracle_weights", "evaluate_models", "resume", "enter_in_ledger"), False),
        **{"ledger": _ledger(folder, record), "output_dir": str(output_dir), "overwrite": True},
        **{key: value for key, value in changes.items() if value is not None},
    }
    run_verb("unlearn", files, **settings)
    again = json.loads((Path(output_dir) / "unlearned.json").read_text(encoding="utf-8"))
    hashes = {"found": again["weights_out"]["sha256"], "expected": record["weights_out"]["sha256"]}
    other = [{"field": f, "found": new, "expected": old} for f, new, old in _differences(again, record)]
    same_machine = not any(entry["field"].startswith("environment") for entry in other)
    verdict = SAME if hashes["found"] == hashes["expected"] else OTHER
    if verdict == OTHER and not same_machine and not _deterministic(record):
        verdict = NOT_COMPARABLE
    result = {"verdict": verdict, "weights": hashes, "differences": other, "environment": again["environment"]}
    write_text(Path(output_dir).with_name("replay.json"), json.dumps(result, indent=2) + "\n")
    return result


def describe_replay(run: str | Path, result: Mapping[str, Any]) -> str:
    """What came out, in a sentence or two.

    Raises:
        ValueError: The weights have other bits although everything that decides them is alike, or something is not
            alike; both are named.
    """
    named = "; ".join(f"{d['field']}: found {_short(d['found'])}, recorded {_short(d['expected'])}"
                      for d in result["differences"])  # fmt: skip
    digest = result["weights"]["expected"][:12]
    if result["verdict"] == SAME:
        return f"Replayed {run}: the same bits ({digest}…), without the original weights and the forgotten scans."
    if result["verdict"] == NOT_COMPARABLE:
        return (
            f"Replayed {run}: not comparable. This machine computes with other packages or instructions ({named}), so "
            "the last digits differ; runs with --deterministic true are comparable on any x86-64 processor."
        )
    raise ValueError(
        f"{run}: replay: expected weights {digest}…, found {result['weights']['found'][:12]}…: "
        + (named or "nothing that the record states differs, so the weights are not those of this run")
    )


def _record(folder: Path) -> dict[str, Any]:
    path = folder / "unlearned.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the record of an unlearning, found none; --run names its folder")
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict) or record.get("verb") != "unlearn" or "command" not in record:
        raise ValueError(f"{path}: expected the record of a finished unlearning with its command, found another file")
    weights = folder / "unlearned.pt"
    if not weights.is_file() or file_sha256(weights) != record["weights_out"]["sha256"]:
        raise ValueError(f"{weights}: expected SHA-256 {record['weights_out']['sha256']}, found another file or none")
    if record.get("forgetting") != "exact":
        raise ValueError(
            f"{path}: 'forgetting': expected exact, found {record.get('forgetting')!r}: what an approximate run "
            "forgets cannot be shown by repeating it; audit it"
        )
    return record


def _ledger(folder: Path, record: Mapping[str, Any]) -> str | bool:
    stated = (record.get("ledger") or {}).get("path")
    path = None if stated is None else Path(os.path.normpath(folder.resolve() / stated))
    return str(path) if path is not None and path.is_file() else False


def _file(folder: Path, entry: Mapping[str, str]) -> str:
    path = Path(bundle_root(), entry["file"])  # an absolute path stays what it is
    if not path.is_file() or (found := file_sha256(path)) != entry["sha256"]:
        what = f"SHA-256 {found}" if path.is_file() else "no such file"
        raise ValueError(f"{folder}: replay: expected {path} with SHA-256 {entry['sha256']}, found {what}")
    return str(path)


def _refuse_foreign_code(record: Path, files: Sequence[str], changes: Mapping[str, Any]) -> None:
    """A record and the config files that came with it run what the bundle's own files run, and no more."""
    own = [file for file in files if Path(file).resolve().is_relative_to(Path(bundle_root()).resolve())]
    known = set(code_in(ConfigParser.load_config_files(own))) if own else set()
    for file in files:
        if file not in own:
            for key, value in ConfigParser.load_config_file(file).items():
                refuse_code(Path(file), key, value, known)
    for key, value in changes.items():
        refuse_code(record, key, value, known)


def _differences(again: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """In what two records differ that decides the result."""
    yield from differences({key: again.get(key) for key in FACTS}, {key: record.get(key) for key in FACTS})
    for key in ("opened", "data", "environment"):
        yield from differences(again.get(key), record.get(key), key)
    for part, key in (("prior", "sha256"), ("cost", "steps"), ("cost", "backward_slices")):
        new, old = ((facts.get(part) or {}).get(key) for facts in (again, record))
        yield from differences(new, old, f"{part}#{key}")


def _deterministic(record: Mapping[str, Any]) -> bool:
    return bool(record["environment"]["numerics"].get("deterministic_algorithms"))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"
