"""A progress bar where ``tqdm`` is installed: whoever only reconstructs need not have it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monai.utils import optional_import

tqdm, HAS_TQDM = optional_import("tqdm", name="tqdm")


class _NoBar:
    """Counts for nobody."""

    def __init__(self, iterable: Any = (), **options: Any) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        return iter(self._iterable)

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, number: int = 1) -> None:
        """Show nothing."""


progress_bar: Any = tqdm if HAS_TQDM else _NoBar
"""``tqdm``, or something that takes its arguments and shows nothing.

>>> list(_NoBar([1, 2], desc="nothing is shown"))
[1, 2]
"""
