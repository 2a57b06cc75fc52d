"""How a result says that it is missing, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOT_MEASURED = "not measured"


def not_measured(why: str) -> dict[str, str]:
    """The entry that stands for a result that could not be had.

    >>> not_measured("no oracle weights")
    {'not measured': 'no oracle weights'}
    """
    return {NOT_MEASURED: why}


def is_measured(entry: Any) -> bool:
    """Whether an entry holds a result.

    >>> is_measured({"value": 1.0}), is_measured(not_measured("no oracle"))
    (True, False)
    """
    return not (isinstance(entry, Mapping) and NOT_MEASURED in entry)
