"""What every program beside the verbs does around its work: ``python -m scripts.…``."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import fire

from scripts.run.errors import MISTAKES, forgive_letters, lost_output, told


def program(*functions: Callable[..., Any]) -> None:
    """Run a function, or the one of several that is named first, with the words of the command line.

    The words are read to the end before anything is done: Fire by itself calls the function and then refuses what is
    left. A mistake, and output that did not arrive, end with a paragraph and the exit code 1.

    Args:
        functions: Their docstrings are the program's help.
    """
    forgive_letters()
    called = []

    def noted(function: Callable[..., Any]) -> Callable[..., None]:
        @functools.wraps(function)
        def note(*words: Any, **options: Any) -> None:
            called.append(function)

        return note

    def read(each: Callable[..., Any]) -> None:
        fire.Fire(each(functions[0]) if len(functions) == 1 else {one.__name__: each(one) for one in functions})

    read(noted)
    try:
        if called:
            read(lambda function: function)
    except (KeyboardInterrupt, *MISTAKES) as error:
        if os.environ.get("LOGLEVEL", "").upper() == "DEBUG":
            raise
        sys.exit(told(error))
    finally:
        if lost := lost_output():
            sys.exit(lost)
