"""Components that a record or a certificate names: built from a list of what is allowed, never by importing a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Built = TypeVar("Built")


def build_allowed(config: Any, allowed: Mapping[str, Callable[..., Built]], where: str) -> Built:
    """Build a component from its configuration.

    Args:
        config: ``_target_`` and arguments, all of them numbers, truth values, plain text or None: a file that may
            come from anyone must not say which code runs.
        allowed: ``_target_`` as written -> what builds it.
        where: Names the configuration in errors.

    Raises:
        ValueError: another ``_target_``, or an argument that is no plain value.

    >>> build_allowed({"_target_": "builtins.complex", "real": 1}, {"builtins.complex": complex}, "number")
    (1+0j)
    >>> build_allowed({"_target_": "os.system", "command": "true"}, {"builtins.complex": complex}, "number")
    Traceback (most recent call last):
    ...
    ValueError: number: '_target_': expected one of builtins.complex, found 'os.system'
    """
    if not isinstance(config, Mapping) or config.get("_target_") not in allowed:
        found = config.get("_target_") if isinstance(config, Mapping) else config
        raise ValueError(f"{where}: '_target_': expected one of {', '.join(sorted(allowed))}, found {found!r}")
    arguments = {key: value for key, value in config.items() if key != "_target_"}
    problems = [f"{key}={value!r}" for key, value in arguments.items() if not _is_plain(key, value)]
    if problems:
        raise ValueError(f"{where}: expected plain values, found {', '.join(problems)}")
    try:
        return allowed[config["_target_"]](**arguments)
    except TypeError as error:
        raise ValueError(f"{where}: expected the arguments of {config['_target_']}, found {error}") from error


def _is_plain(key: str, value: Any) -> bool:
    """Whether an argument is a value and neither a component nor an instruction to MONAI's parser."""
    text = not isinstance(value, str) or not value.startswith(("$", "@", "%"))
    return text and not key.startswith("_") and isinstance(value, (bool, int, float, str, type(None)))
