"""A configuration is checked before any work: its keys, references and components, and the kind of every value.

A value that is an expression or a reference of the configuration is taken as it is. `Fire`, which reads the command
line for MONAI, leaves words such as ``false`` and ``none`` text; where a setting can be true, false or nothing, they
are understood as such. Where it can be a text, it is the text as it was typed.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import inspect
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any

from monai.bundle import ConfigParser

from scripts.run.config import TRACKING, bundle_root, is_tracked
from scripts.run.kinds import (
    ANY_NUMBER,
    COMPONENT,
    EXPRESSION,
    FLAG,
    LIST,
    MAPPING,
    Kind,
    argument_kinds,
    is_expression,
    is_number,
)
from scripts.run.settings import OTHERS, settings_of

WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "none": None, "null": None}
UNREAD = object()  # of no kind
REFERENCE = re.compile(r"@([A-Za-z_]\w*)")


def refuse_unknown_keys(declared: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse keys that no config file declares; MONAI adds them silently, and they have no effect.

    The arguments of a component are its own affair: it refuses what it does not know. The keys that MONAI adds for
    ``--tracking mlflow`` are known.

    Args:
        declared: Content of the config files.
        config: The configuration being run, overrides applied.

    Raises:
        ValueError: naming each unknown key and the nearest known one.

    >>> refuse_unknown_keys({"retain_fraction": 0.1}, {"retain_fraction": 0.2, "retain_fracton": 0.1})
    Traceback (most recent call last):
    ...
    ValueError: override key 'retain_fracton': not in the configuration; did you mean 'retain_fraction'?
    """
    unknown = [key for key in _unknown(declared, config, "") if key != "_meta_"]
    if is_tracked(config):
        unknown = [key for key in unknown if key not in TRACKING]
    problems = []
    for key in sorted(unknown):
        hint = _near(key.partition("#")[0], declared) or f"expected one of {', '.join(map(str, declared))}"
        problems.append(f"override key {key!r}: not in the configuration; {hint}")
    if problems:
        raise ValueError("; ".join(problems))


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, [str(name) for name in known], n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def _unknown(declared: Mapping[str, Any], config: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Keys, joined by ``#``, that ``config`` holds beyond ``declared``, also within blocks of components."""
    for key, value in config.items():
        if key not in declared:
            yield f"{prefix}{key}"
        elif isinstance(value, Mapping) and _is_block(declared[key]):
            yield from _unknown(declared[key], value, f"{prefix}{key}#")


def _is_block(value: Any) -> bool:
    """Whether a declared value groups components, as ``train`` and ``validate`` do."""
    if not isinstance(value, Mapping) or "_target_" in value:
        return False
    return any(isinstance(item, Mapping) and "_target_" in item for item in value.values())


def check_components(declared: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse a component that is not there, or an argument that it does not take.

    Components that are as the config files have them are not looked at.

    Args:
        declared: Content of the config files.
        config: The configuration being run, overrides applied.

    Raises:
        ValueError: naming each key, the nearest known name and the choices.

    >>> own = {"mask": {"_target_": "scripts.data.RandomMask", "acceleration": 4}}
    >>> check_components(own, {"mask": {**own["mask"], "accelaration": 6}})
    Traceback (most recent call last):
    ...
    ValueError: 'mask#accelaration': ...did you mean 'acceleration'? RandomMask takes acceleration, center_fraction
    """
    problems = [p for key, value in config.items() for p in _problems(key, declared.get(key), value)]
    if problems:
        raise ValueError("; ".join(problems))


def _problems(name: str, declared: Any, value: Any) -> Iterator[str]:
    if value == declared:
        return
    if isinstance(value, Mapping):
        if isinstance(value.get("_target_"), str) and not is_expression(value["_target_"]):
            yield from _component_problems(name, declared, value)
        for key, item in value.items():
            yield from _problems(f"{name}#{key}", declared.get(key) if isinstance(declared, Mapping) else None, item)
    elif isinstance(value, list):
        before = declared if isinstance(declared, list) else []
        for index, item in enumerate(value):
            yield from _problems(f"{name}#{index}", before[index] if index < len(before) else None, item)


def _component_problems(name: str, declared: Any, value: Mapping[str, Any]) -> Iterator[str]:
    target = value["_target_"]
    if "." not in target:  # one of MONAI's, which it finds by itself
        return
    try:
        found = locate(target)
    except ErrorDuringImport:  # told by whoever builds it
        return
    if found is None:
        choices = list(_siblings(target, declared))
        there = f"{_near(target, choices)} There are {', '.join(choices)}" if choices else _why_none(target)
        yield f"'{name}#_target_': no component {target!r}; {there}".replace("  ", " ")
        return
    try:
        parameters = inspect.signature(found).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = list(parameters)
    for key in value:
        if not str(key).startswith("_") and key not in known:
            takes = f"{target.rpartition('.')[2]} takes {', '.join(known) or 'none'}"
            yield f"'{name}#{key}': not an argument; {_near(str(key), known)} {takes}".replace("  ", " ")


def _why_none(target: str) -> str:
    """Why there is nothing of this name, in a module that lists none."""
    module = target.rpartition(".")[0]
    package = module.partition(".")[0]
    if package and find_spec(package) is not None:
        return f"{module} has none of that name"
    return f"no module {package!r} in this folder or those of PYTHONPATH"


def _siblings(target: str, declared: Any) -> Iterator[str]:
    """The public classes of the target's module; those alike the declared component where there is one."""
    module = target.rpartition(".")[0]
    try:
        room = import_module(module)
    except ImportError:
        return
    usual = locate(str(declared["_target_"])) if isinstance(declared, Mapping) and "_target_" in declared else None
    base = usual.__mro__[1] if isinstance(usual, type) and len(usual.__mro__) > 2 else object
    for name in getattr(room, "__all__", ()):
        component = getattr(room, name)
        if isinstance(component, type) and issubclass(component, base):
            yield f"{module}.{name}"


def check_references(config: Mapping[str, Any]) -> None:
    """Refuse references to what no file declares, and say which file of the bundle does.

    Args:
        config: The configuration being run, overrides applied.

    Raises:
        ValueError: naming the reference, where it stands and the file to add.
    """
    missing = {name: key for key, value in config.items() for name in _referred(value) if name not in config}
    problems = []
    for name, key in missing.items():
        files = [  # those of the bundle that are laid over others and declare the name
            str(file)
            for file in sorted(Path(bundle_root(), "configs").glob("*.yaml"))
            if name in (content := ConfigParser.load_config_file(str(file))) and "verb" not in content
        ]
        hint = f"add {files[0]} before the file that uses it" if files else "is it mistyped?"
        problems.append(f"config_file: {key!r} refers to {name!r}, which none of the files declares: {hint}")
    if problems:
        raise ValueError("; ".join(problems))


def _referred(value: Any) -> Iterable[str]:
    """The names at the head of the references in a value."""
    if isinstance(value, str):
        return REFERENCE.findall(value) if is_expression(value) else []
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return [name for part in parts for name in _referred(part)]


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
            problems.append(f"{key!r}: expected {kinds[key].expected if key in kinds else 'no #'}, found {text!r}")
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
        for name, expected, item in pairs:
            meant = WORDS.get(item.strip().lower(), item) if isinstance(item, str) else item
            if meant is not item and expected.fits(meant):
                changes[name] = meant
            elif not expected.fits(item):
                problems.append(f"{name!r}: expected {expected.expected}, found {item!r}")
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
    """Values within a mapping or list that have a kind: the argument's own, or that of the declared counterpart."""
    if isinstance(value, Mapping):
        kinds = _argument_kinds(name.partition("#")[0], value) if COMPONENT.fits(value) else {}
        same = isinstance(declared, Mapping) and declared.get("_target_") == value.get("_target_")
        for key, item in value.items():
            if key not in kinds:
                yield from _leaves(declared.get(key) if same else None, item, f"{name}#{key}")
            elif not is_expression(item) and item is not None:
                yield f"{name}#{key}", kinds[key], item
    elif isinstance(value, list):
        same = isinstance(declared, list) and len(declared) == len(value)
        for index, item in enumerate(value):
            yield from _leaves(declared[index] if same else None, item, f"{name}#{index}")
    elif not is_expression(value) and isinstance(declared, bool):
        yield name, FLAG, value
    elif not is_expression(value) and is_number(declared):
        yield name, ANY_NUMBER, value


def _argument_kinds(block: str, component: Mapping[str, Any]) -> Mapping[str, Kind]:
    """The arguments whose kind a component of the project declares, or that is known of other people's."""
    target = component["_target_"]
    if not target.startswith("scripts."):
        return {} if block in ("network", "network_def") else OTHERS
    with contextlib.suppress(ErrorDuringImport):
        found = locate(target)
        return argument_kinds(found) if callable(found) else {}
    return {}


def _unwritable(key: str, value: Any) -> list[str]:
    """What a record, which is JSON, could not hold: such as a date that YAML made of a text without quotes."""
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        return [f"{key!r}: expected numbers, texts, lists and mappings: {error}; a date needs quotes"]
    return []
