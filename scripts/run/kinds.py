"""What a setting may be: types and ranges, with the words that an error says of them.

The settings of the verbs are declared in ``scripts.run.settings``, the arguments of components where these are:
``weight: Positive``. The check of a configuration, the component itself and the verb ``help`` read the same one.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch


def is_expression(value: Any) -> bool:
    """Whether a value is resolved by MONAI's parser: an expression, a reference or a macro."""
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


@dataclass(frozen=True)
class Kind:
    """What a setting may be.

    Attributes:
        expected: The words of the error message.
        fits: Whether a value is of this kind.
        names_files: Whether its texts are paths.
    """

    expected: str
    fits: Callable[[Any], bool]
    names_files: bool = False

    def __or__(self, other: Kind) -> Kind:
        either = f"{self.expected} or {other.expected}"
        return Kind(either, lambda v: self.fits(v) or other.fits(v), self.names_files or other.names_files)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def whole(low: int, high: int = 2**63 - 1) -> Kind:
    """Whole numbers of a range; 4.0 is none."""
    upper = f" to {high}" if high < 2**31 else ""
    return Kind(f"a whole number from {low}{upper}", lambda v: type(v) is int and low <= v <= high)


def above(low: float, high: float = math.inf) -> Kind:
    """Numbers above one and up to another."""
    upper = f" and at most {high:g}" if high < math.inf else ""
    return Kind(f"a number above {low:g}{upper}", lambda v: is_number(v) and low < v <= high)


def within(low: float, high: float) -> Kind:
    """Numbers between two that are excluded."""
    return Kind(f"a number between {low:g} and {high:g}", lambda v: is_number(v) and low < v < high)


def from_to(low: float, high: float) -> Kind:
    """Numbers between two that are included."""
    return Kind(f"a number from {low:g} to {high:g}", lambda v: is_number(v) and low <= v <= high)


def unlike(kind: Kind) -> Kind:
    """Lists of a kind that name nothing twice."""
    return Kind(f"{kind.expected}, none twice", lambda v: kind.fits(v) and all(v.count(item) == 1 for item in v))


def one_of(*values: str) -> Kind:
    """One of some words."""
    return Kind(f"one of {', '.join(values)}", lambda v: isinstance(v, str) and v in values)


def list_of(kind: Kind, low: int = 0) -> Kind:
    """Lists whose every item is of a kind, with at least ``low`` items."""
    least = f" of at least {low}" if low else ""
    return Kind(
        f"a list{least}, each {kind.expected}",
        lambda v: isinstance(v, (list, tuple)) and len(v) >= low and all(_is(kind, item) for item in v),
        kind.names_files,
    )


def mapping_of(kind: Kind, low: int = 0) -> Kind:
    """Mappings of a text to something of a kind, with at least ``low`` entries."""
    least = f" of at least {low}" if low else ""
    return Kind(
        f"a mapping{least} of texts, each to {kind.expected}",
        lambda v: isinstance(v, Mapping) and len(v) >= low and all(_is_text(k) and _is(kind, i) for k, i in v.items()),
        kind.names_files,
    )


def fields(required: Mapping[str, Kind], optional: Mapping[str, Kind]) -> Kind:
    """Mappings of these keys and no others, each to something of its kind, the optional ones also to nothing."""
    kinds = {**required, **{key: kind | NOTHING for key, kind in optional.items()}}
    listed = ", ".join(f"{key} ({kind.expected})" for key, kind in {**required, **optional}.items())
    return Kind(
        f"a mapping of {listed}",
        lambda v: (
            isinstance(v, Mapping)
            and set(required) <= set(v) <= set(kinds)
            and all(_is(kinds[key], item) for key, item in v.items())
        ),
    )


def _is(kind: Kind, item: Any) -> bool:
    return is_expression(item) or kind.fits(item)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != "" and value.isprintable()


def _is_path(value: Any) -> bool:
    if not _is_text(value) or value != value.strip() or "::" in value:  # MONAI turns a "#" in a value into "::"
        return False
    return max(len(os.fsencode(part)) for part in value.split("/")) <= 255 and len(os.fsencode(value)) < 4096


def _is_device(value: Any) -> bool:
    try:
        device = torch.device(value)
    except (RuntimeError, TypeError, ValueError):
        return False
    return device.type != "cuda" or (device.index or 0) < torch.cuda.device_count()


ANY_NUMBER = Kind("a number", is_number)
FROM_ZERO = Kind("a number from 0", lambda v: is_number(v) and v >= 0)
FLAG = Kind("true or false", lambda v: isinstance(v, bool))
NOTHING = Kind("null", lambda v: v is None)
NONE = Kind("null or false", lambda v: v is None or v is False)
TEXT = Kind("a text", _is_text)
DEVICE = Kind("a device of this machine, such as cpu or cuda:0", _is_device)
PATH = Kind("a path without '#', of names up to 255 bytes", _is_path, names_files=True)
EXPRESSION = Kind("an expression, as the config file has it", is_expression)
LIST = Kind("a list", lambda v: isinstance(v, list))
MAPPING = Kind("a mapping", lambda v: isinstance(v, Mapping))
COMPONENT = Kind("a mapping with '_target_'", lambda v: isinstance(v, Mapping) and isinstance(v.get("_target_"), str))
HANDLERS = Kind("a list of components", lambda v: isinstance(v, list) and all(_is(COMPONENT, item) for item in v))
ADDRESS = Kind("an address such as tcp://host:8786", lambda v: _is_text(v) and "://" in v)
REQUEST = Kind("a file or a mapping", lambda v: _is_path(v) or isinstance(v, Mapping), names_files=True)
REQUESTS = REQUEST | list_of(REQUEST, 1)
BELOW_ONE = Kind("a number from 0 and below 1", lambda v: is_number(v) and 0 <= v < 1)
SEED = whole(0, 2**32 - 1)
FRACTION = above(0, 1)

# annotations of arguments
Positive = Annotated[float, above(0)]
NotNegative = Annotated[float, FROM_ZERO]
Share = Annotated[float, from_to(0, 1)]
Count = Annotated[int, whole(1)]
Channels = Annotated[int, whole(1, 4096)]
Pools = Annotated[int, whole(1, 10)]
PLAIN = {bool: FLAG, int: Kind("a whole number", lambda v: type(v) is int), float: ANY_NUMBER, type(None): NOTHING}


@functools.cache
def argument_kinds(component: Any) -> dict[str, Kind]:
    """Argument -> kind of those whose annotations tell it: numbers, truth values, choices, and what names a kind.

    >>> def scaled(factor: Positive, twice: bool = False, image: object = None): ...
    >>> {name: kind.expected for name, kind in argument_kinds(scaled).items()}
    {'factor': 'a number above 0', 'twice': 'true or false'}
    """
    annotated: Any = component
    if isinstance(component, type):
        owner = next(base for base in component.__mro__ if "__init__" in vars(base))
        annotated = component if "__dataclass_params__" in vars(owner) else owner.__init__  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(annotated, include_extras=True)
        names = inspect.signature(component).parameters
    except (NameError, TypeError, ValueError):  # other people's
        return {}
    kinds = {name: _kind_of(hints[name]) for name in names if name in hints}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _kind_of(hint: Any) -> Kind | None:
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        return next((part for part in parts if isinstance(part, Kind)), None)
    if typing.get_origin(hint) is Literal:
        return one_of(*parts) if all(isinstance(part, str) for part in parts) else None
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [_kind_of(part) for part in parts]
        known = [kind for kind in kinds if kind is not None]
        return functools.reduce(Kind.__or__, known) if len(known) == len(kinds) else None
    return PLAIN.get(hint)


def check_arguments(component: object | type, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that are not of the kind that the component declares.

    Raises:
        ValueError: naming the class and each argument, what was expected and what was found.

    >>> class Scaled:
    ...     def __init__(self, factor: Positive) -> None:
    ...         check_arguments(self, {"factor": factor})
    >>> Scaled(0)
    Traceback (most recent call last):
    ...
    ValueError: Scaled: 'factor': expected a number above 0, found 0
    """
    kind: Any = component if isinstance(component, type) else type(component)
    name, kinds = kind.__name__, argument_kinds(kind)
    wrong = {key: value for key, value in arguments.items() if key in kinds and not kinds[key].fits(value)}
    if wrong:
        raise ValueError(
            "; ".join(f"{name}: {key!r}: expected {kinds[key].expected}, found {v!r}" for key, v in wrong.items())
        )
