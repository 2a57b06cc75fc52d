"""The run that a verb is about: what its record states is taken from there, and stated nowhere else.

``--run FOLDER`` names the folder of a finished run. Its record (``unlearned.json``, or ``original.json`` of a training)
knows datalist, request, network, mask, loss and weights. A verb that reads a run declares ``run: "@VERB"``
and leaves the keys that it takes from there empty (``datalist: null``, ``network: {}``).
"""

from __future__ import annotations

import ast
import itertools
import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any

import torch
from monai.bundle.config_item import ComponentLocator

from scripts.run.files import file_sha256
from scripts.run.kinds import is_expression

KEY = "run"
RECORDS = ("unlearned.json", "original.json")  # of unlearn, of train
BLOCKS = ("network", "mask", "loss_function")
CLASSES = (torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)  # that a record may name
FILES = ("datalist", "original_weights", "unlearned_weights", "oracle_weights", "prior")
RECORDED = ("run_dir", *FILES, "forget_request", *BLOCKS, "precision")
REQUEST = ("request_id", "reason", "forget")
MADE_AGAIN = "scripts.phantoms.phantom_datalist"  # what a record may name in place of a file
Facts = Mapping[str, Any]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordedRun:
    """A finished run, by its record.

    Attributes:
        file: The record.
        facts: Its content.
    """

    file: Path
    facts: Facts

    @classmethod
    def read(cls, file: str | Path) -> RecordedRun:
        """Read a record.

        Raises:
            FileNotFoundError, ValueError: no such file; no JSON object with the configuration of a run.
        """
        file = Path(file)
        if not file.is_file():
            raise FileNotFoundError(f"{file}: expected the record of a run, found no such file")
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            found = "an object without " + ", ".join(
                key for key in ("configuration", "weights_out") if not isinstance(facts.get(key), Mapping)
            )
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{file}: expected the record of a run (JSON), found {error}") from error
        if not found.endswith(" "):
            raise ValueError(f"{file}: expected the record of a run, found {found}")
        return cls(file, facts)

    @classmethod
    def open(cls, folder: str | Path) -> RecordedRun:
        """The run that wrote a folder.

        Raises:
            FileNotFoundError, ValueError: no folder, or none with a record.
        """
        there = [Path(folder) / name for name in RECORDS if (Path(folder) / name).is_file()]
        if not there:
            found = "a folder without one" if Path(folder).is_dir() else "no such folder"
            raise FileNotFoundError(
                f"'run': {folder}: expected the folder of a finished run, which holds its record "
                f"({' or '.join(RECORDS)}), found {found}{_known()}"
            )
        return cls.read(there[0])

    def value(self, key: str) -> Any:
        """What the record states under one of :data:`RECORDED`; paths lead to files that are what they were.

        Raises:
            FileNotFoundError: a file was moved or changed.
        """
        configuration = self.facts["configuration"]
        if key in BLOCKS:
            return configuration.get(key)
        if key == "precision":
            return configuration.get(key, "fp32")
        if key == "forget_request":
            return self._request()
        if key == "run_dir":
            return str(self.file.parent)
        return self._path(key)

    def sha256(self, key: str) -> str | None:
        """The hash that the record states of a file; None where it states none."""
        entry = self._entry(key)
        return entry.get("sha256") if isinstance(entry, Mapping) else None

    def _request(self) -> Any:
        """The request as the run was given it, if that still says what the run did; else as the record restates it."""
        applied = self.facts.get("forget_request")
        given = self.facts["configuration"].get("forget_request")
        if not isinstance(applied, Mapping) or not given:
            return applied or False
        parts = given if isinstance(given, list) else [given]
        parts = [self._found(part) if isinstance(part, str) else part for part in parts]
        same = None not in parts and _as_text(parts) == _as_text(applied)
        return applied if not same else parts if isinstance(given, list) else parts[0]

    def _found(self, request: str) -> str | None:
        """Where a request's file lies now."""
        return next((str(place) for place in self._places("", request) if place.is_file()), None)

    def _entry(self, key: str) -> Any:
        trained = self.facts.get("verb") == "train"
        names = {
            "original_weights": "weights_out" if trained else "weights_in",
            "unlearned_weights": None if trained else "weights_out",
            "oracle_weights": None if trained else "oracle_weights",
        }
        name = names.get(key, key)
        return None if name is None else self.facts.get(name)

    def _path(self, key: str) -> str | None:
        entry = self._entry(key)
        path = entry.get("path") if isinstance(entry, Mapping) else entry
        if self.facts.get("verb") == "train" and key == "oracle_weights":
            oracle = self.file.with_name("oracle.pt")
            return str(oracle) if oracle.is_file() else None
        if not path:
            return None
        sha256 = self.sha256(key)
        places = list(self._places(key, str(path)))
        there = [place for place in places if place.is_file()]
        for place in there:
            if sha256 is None or file_sha256(place) == sha256:
                return str(place)
        declared = self.facts["configuration"].get(key)
        if key == "datalist" and _makes_phantoms(declared):
            return str(declared)  # made again on first use
        found = f"another file (SHA-256 {file_sha256(there[0])})" if there else "no such file"
        raise FileNotFoundError(
            f"{self.file}: {key!r}: expected {path}"
            + (f" with SHA-256 {sha256}" if sha256 else "")
            + f", found {found}; "
            f"say where it is now: --{key.removeprefix('original_')} FILE"
        )

    def _places(self, key: str, path: str) -> Iterator[Path]:
        """Where a file of the run may lie: as stated, seen from here and from where the run was made."""
        stated = Path(path).expanduser()
        if self._entry(key) is self.facts["weights_out"]:  # which the folder holds, wherever it was copied to
            yield self.file.with_name(stated.name)
            return
        yield stated
        out = Path(self.facts["weights_out"].get("path", ""))
        here = self.file.resolve().with_name(out.name)
        parts = len(out.parts)
        if not out.is_absolute() and here.parts[-parts:] == out.parts:
            yield Path(*here.parts[:-parts]) / stated


def take(verb: str, config: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """What a verb takes from the run that it is about: key of the configuration -> value.

    Args:
        verb: The verb.
        config: The configuration being run, overrides applied, references unresolved.
        declared: Content of the config files.

    Returns:
        Nothing for a verb that reads no run. Otherwise the steps, which ``--run FOLDER`` replaced, and every key of
        :data:`RECORDED` that the configuration names and that was not stated.

    Raises:
        FileNotFoundError: no record, or a file of the run was moved or changed.
        ValueError: no run and not all is stated without one; or what is stated differs from the run's.
    """
    if "run_dir" not in declared:
        return {}
    given = None if config.get(KEY) == declared[KEY] else config.get(KEY)
    if given is not None and (not isinstance(given, (str, int)) or isinstance(given, bool) or is_expression(given)):
        raise ValueError(f"'run': expected the folder of a finished run, found {given!r}")
    if config.get("run_dir") is not None:
        raise ValueError(f"'run_dir': expected --run FOLDER in its place, found {config['run_dir']!r}")
    stated = {key: config[key] for key in RECORDED if not is_expression(config.get(key, "@"))}
    stated = {key: value for key, value in stated.items() if value is not None and value != {}}
    empty: dict[str, Any] = {**dict.fromkeys(RECORDED), **{key: {} for key in (*BLOCKS, "forget_request")}}
    needed = [key for key in _named(config) if key in stated or config.get(key, "") == empty[key]]
    changes: dict[str, Any] = {KEY: declared[KEY], "run_dir": None if given is None else str(given)}
    runs = list(_beside(config)) if given is None else [RecordedRun.open(Path(str(given)).expanduser())]
    for run in runs:  # without --run lists, request and mask may be others, but no network
        _refuse_another(run, stated if given is not None else {k: v for k, v in stated.items() if k == "network"})
        logger.debug("%s: %s", run.file, ", ".join(key for key in needed if key not in stated))
    for key in needed:
        if key == "run_dir" or (key in FILES and key in stated):
            continue
        merged = key not in stated or isinstance(stated[key], Mapping)
        found = _agreed(key, runs, stated.get(key)) if merged else stated[key]
        if key in BLOCKS and merged and runs:
            refuse_code(runs[0].file, key, found, set(code_in(stated.get(key))))
        if found is None and key not in ("oracle_weights", "prior"):
            raise ValueError(_missing(verb, key, runs, needed))
        changes[key] = found
    return changes


def code_in(config: Any) -> Iterator[str]:
    """What a configuration would run: its targets, its expressions, and the keys that MONAI's parser obeys."""
    if isinstance(config, Mapping):
        yield from (str(key) for key in config if str(key).startswith("_"))
        if isinstance(config.get("_target_"), str):
            yield config["_target_"]
    elif is_expression(config):
        yield config.replace("#", "::")  # as MONAI's parser writes it
    parts = config.values() if isinstance(config, Mapping) else config if isinstance(config, list) else ()
    for part in parts:
        yield from code_in(part)


def refuse_code(file: Path, key: str, value: Any, known: Collection[str]) -> None:
    """Refuse what a file that may come from anyone would run.

    Args:
        file: Where the value stands.
        key: Its name there.
        value: A part of a configuration. It may have classes of networks, losses, optimisers and of the project, with
            plain arguments.
        known: What it may have beside: see :func:`code_in`, of what the user or the project states.

    Raises:
        ValueError: Naming the file, the key and what was found.
    """
    if isinstance(value, Mapping):
        if "_target_" in value and value["_target_"] not in known and not _is_class(value["_target_"]):
            raise ValueError(
                f"{file}: {key!r}: '_target_': expected a torch.nn.Module or a class of this project, found "
                f"{value['_target_']!r}; one of your own is named by an overlay"
            )
        odd = [name for name in value if str(name).startswith("_") and name not in known and name != "_target_"]
        if odd:
            raise ValueError(f"{file}: {key!r}: expected plain arguments, found {odd[0]!r}")
        for name, part in value.items():
            refuse_code(file, f"{key}#{name}", part, known)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            refuse_code(file, f"{key}#{index}", part, known)
    elif is_expression(value) and value.replace("#", "::") not in known:
        raise ValueError(f"{file}: {key!r}: expected a plain value, found {value!r}")


def _is_class(target: Any) -> bool:
    if isinstance(target, str) and "." not in target:  # one of MONAI's, by its name alone
        target = f"{ComponentLocator().get_component_module_name(target)}.{target}"
    try:
        found = locate(target) if isinstance(target, str) else None
    except ErrorDuringImport:
        return False
    return isinstance(found, type) and (issubclass(found, CLASSES) or found.__module__.startswith("scripts."))


def results_in(run_dir: str | None, name: str) -> str:
    """Where a verb writes what it finds of a run: within the run's folder, else in ``outputs``.

    >>> results_in("outputs/2026-017", "audit"), results_in(None, "audit")
    ('outputs/2026-017/audit', 'outputs/audit')
    """
    return f"{run_dir or 'outputs'}/{name}"


def results_of(run_dir: str | None, name: str) -> str | None:
    """The folder of :func:`results_in`, if that verb has been there; None without a run or without results."""
    folder = None if run_dir is None else results_in(run_dir, name)
    return folder if folder is not None and Path(folder).is_dir() else None


def _named(config: Mapping[str, Any]) -> list[str]:
    """The recorded keys that a configuration refers to, in the order of :data:`RECORDED`."""
    names = set(re.findall(r"[@%](\w+)", json.dumps(config, default=str)))
    names |= {"precision"} & config.keys()  # it stands in steps alone, which an overlay may replace
    return [key for key in RECORDED if key in names]


def _beside(config: Mapping[str, Any]) -> Iterator[RecordedRun]:
    """The records beside the weights that are stated; the audited ones count before the original's."""
    for key in ("unlearned_weights", "weights"):
        value = config.get(key)
        paths = list(value.values()) if isinstance(value, Mapping) else [value]
        for path in paths:
            if (
                isinstance(path, str)
                and path.strip()
                and not is_expression(path)
                and Path(path).with_suffix(".json").is_file()
            ):
                run = RecordedRun.read(Path(path).with_suffix(".json"))
                if Path(path).is_file() and run.facts["weights_out"].get("sha256") == file_sha256(path):
                    yield run
                    if key == "unlearned_weights":
                        return


def _agreed(key: str, runs: Iterable[RecordedRun], stated: Any) -> Any:
    """What all records say of a key, with the parts that were stated in place of theirs."""
    if isinstance(stated, Mapping) and ("_target_" in stated or set(REQUEST) <= set(stated)):
        return stated
    values = [(run, run.value(key)) for run in runs]
    if key in FILES:
        known = [value for _, value in values if value is not None]
        return known[0] if known else None
    for (one, first), (other, second) in itertools.pairwise(values):
        if first != second:
            raise ValueError(
                f"'weights': the records of two files differ in {key!r}, so state which counts: {one.file} has "
                f"{_short(first)}, {other.file} has {_short(second)}"
            )
    found = values[0][1] if values else None
    return found if stated is None else _over(found, stated)


def _over(found: Any, stated: Any) -> Any:
    """What was stated of a mapping, such as ``--network#chans 4``, in place of the recorded parts."""
    whole = not isinstance(stated, Mapping) or not isinstance(found, Mapping) or "_target_" in stated
    return stated if whole else {**found, **stated}


def _refuse_another(run: RecordedRun, stated: Mapping[str, Any]) -> None:
    """Refuse what differs from the run's."""
    problems = []
    for key, value in stated.items():
        ours: Any = run.value(key) if key in BLOCKS or key == "forget_request" else run.sha256(key)
        found = value
        if key in BLOCKS:
            same = _over(ours, value) == ours
        elif key == "forget_request":
            found, ours = (_as_text(part) for part in (_over(ours, value), ours))
            same = found == ours
        else:
            found = file_sha256(value) if isinstance(value, str) and Path(value).is_file() else "no such file"
            same = key not in FILES or ours is None or found == ours
            found = f"{value} ({found})"
        if not same:
            ours, found = differing(ours, _over(ours, found)) if key in BLOCKS else (ours, found)
            problems.append(f"{key!r}: expected that of the run, {_short(ours)}, found {_short(found)}")
    if problems:
        raise ValueError(f"{run.file}: {'; '.join(problems)}")


def differing(one: Any, other: Any) -> tuple[Any, Any]:
    """Of two components the arguments in which they differ, in words; anything else as it is.

    >>> differing({"_target_": "x", "chans": 8}, {"_target_": "x", "chans": 4})
    ('chans 8', 'chans 4')
    """
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return one, other
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    first, second = (", ".join(f"{name} {part.get(name)}" for name in names) for part in (one, other))
    return first, second


def _as_text(request: Any) -> Any:
    """A request, a file or list of them as the record states it: every value as text."""
    if isinstance(request, list) and len(request) == 1:
        return _as_text(request[0])
    if isinstance(request, list):
        parts = [_as_text(part) for part in request]
        return {
            **{key: sep.join(part[key] for part in parts) for key, sep in (("request_id", ", "), ("reason", "; "))},
            "forget": [selector for part in parts for selector in part["forget"]],
        }
    if isinstance(request, (str, Path)):
        if not Path(request).is_file():
            raise FileNotFoundError(f"'forget_request': {request}: no such forget request")
        import yaml  # no part of the inference path

        try:
            request = yaml.load(Path(request).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(f"{request}: 'forget_request': expected YAML or JSON, found {error}") from error
    if not isinstance(request, Mapping):
        return request
    return {key: _texts(request.get(key)) for key in REQUEST}


def _texts(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {str(key): _texts(value) for key, value in node.items()}
    return [_texts(value) for value in node] if isinstance(node, (list, tuple)) else str(node)


def _makes_phantoms(declared: Any) -> bool:
    """Whether a declared datalist is the built-in phantom's, made with plain values: nothing else of a record runs."""
    if not isinstance(declared, str) or not declared.startswith(f"${MADE_AGAIN}("):
        return False
    try:
        call = ast.parse(declared[1:], mode="eval").body
        parts = [*call.args, *(word.value for word in call.keywords)] if isinstance(call, ast.Call) else [call]
        return all(isinstance(ast.literal_eval(part), object) for part in parts) and isinstance(call, ast.Call)
    except (SyntaxError, ValueError):
        return False


def _missing(verb: str, key: str, runs: list[RecordedRun], needed: Iterable[str]) -> str:
    if runs:
        return f"{runs[0].file}: {key!r}: expected the record to state it, found none: state it, --{key} …"
    return (
        f"{verb}: expected --run FOLDER, the folder of a finished run, whose record states {', '.join(needed)}; "
        f"found none, and {key!r} is not stated{_known() or ': unlearn writes it, by default outputs/<request_id>'}"
    )


def _known() -> str:
    """The folders of runs that are likely meant, for an error."""
    there = sorted(path.parent for path in Path("outputs").glob("*/unlearned.json"))
    return f": add --run {' or --run '.join(map(str, there[:3]))}" if there else ""


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 200 else f"{text[:200]}…"
