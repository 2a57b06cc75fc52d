"""Components that were changed by overrides: a mistyped name or argument is refused before anything is built."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any

from monai.bundle import ConfigParser

from scripts.run.config import bundle_root
from scripts.run.kinds import is_expression

REFERENCE = re.compile(r"@([A-Za-z_]\w*)")


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
        near = difflib.get_close_matches(target, choices, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        there = ", ".join(choices) or "none in that module"
        yield f"'{name}#_target_': no component {target!r}; {hint}There are {there}"
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
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            short = target.rpartition(".")[2]
            yield f"'{name}#{key}': not an argument; {hint}{short} takes {', '.join(known) or 'none'}"


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
        files = [str(file) for file in _declaring(name)]
        hint = f"add {files[0]} before the file that uses it" if files else "is it mistyped?"
        problems.append(f"config_file: '{key}' refers to '{name}', which none of the files declares: {hint}")
    if problems:
        raise ValueError("; ".join(problems))


def _referred(value: Any) -> Iterable[str]:
    """The names at the head of the references in a value."""
    if isinstance(value, str):
        return REFERENCE.findall(value) if is_expression(value) else []
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return [name for part in parts for name in _referred(part)]


def _declaring(name: str) -> Iterator[Path]:
    """The config files of the bundle that declare a key and are laid over others."""
    for file in sorted(Path(bundle_root(), "configs").glob("*.yaml")):
        content = ConfigParser.load_config_file(str(file))
        if name in content and "verb" not in content:
            yield file
