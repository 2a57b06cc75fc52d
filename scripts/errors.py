"""The one way in which an error reaches a person: a short paragraph; the traceback goes to the log."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from types import TracebackType

logger = logging.getLogger(__name__)
# what a person's mistake raises; anything else is more likely a fault of the program
MISTAKES = (ValueError, OSError, ImportError, MemoryError, RuntimeError, TypeError)
EXPLAINED = {MemoryError: "not enough memory", KeyboardInterrupt: "stopped by Ctrl-C"}
_advice: list[str] = []  # what was kept and how to go on, for a run that has begun


def install() -> None:
    """From here on an error that leaves a bundle's run is told in one paragraph; call it before anything can fail."""
    sys.excepthook = _tell


def set_advice(text: str = "") -> None:
    """What is told below an error or Ctrl-C, once work has begun: what is kept, and how to go on."""
    _advice[:] = [text] if text else []


def own_error(error: BaseException) -> BaseException:
    """The error below MONAI's wrappers, which only say which expression or component of a config failed."""
    while error.__cause__ is not None and str(error).startswith("Failed to "):
        error = error.__cause__
    return error


def message_of(error: BaseException) -> str:
    """What is told of an error: its own words, without MONAI's wrappers and hints for developers.

    >>> message_of(ValueError("seed: expected a whole number, found 'abc'"))
    "seed: expected a whole number, found 'abc'"
    """
    cause = own_error(error)
    text = str(cause).partition("\n\nFor details about installing")[0].strip()
    if isinstance(cause, KeyError) and cause.args:
        text = str(cause.args[0])
    text = EXPLAINED.get(type(cause), "") + (f" ({text})" if text and type(cause) in EXPLAINED else "") or text
    return text or type(cause).__name__


def told(error: BaseException) -> str:
    """The paragraph itself.

    >>> print(told(ValueError("datalist.json: no such datalist")))
    Error: datalist.json: no such datalist
    (The traceback: set LOGLEVEL=DEBUG.)
    """
    cause = own_error(error)
    lines = [f"Error: {message_of(error)}"]
    if isinstance(cause, KeyboardInterrupt):
        lines = ["Stopped by Ctrl-C."]
    elif not isinstance(cause, MISTAKES):
        lines = [f"Error, probably of the program ({type(cause).__name__}): {message_of(error)}"]
    log = _log_file()
    if not isinstance(cause, KeyboardInterrupt):
        lines += [*_advice, f"(The traceback: {log or 'set LOGLEVEL=DEBUG'}.)"]
    else:
        lines += _advice
    return "\n".join(textwrap.fill(line, 118, break_long_words=False, break_on_hyphens=False) for line in lines)


def _log_file() -> str | None:
    files = [h.baseFilename for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
    return files[-1] if files else None


def _tell(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """``sys.excepthook``: a paragraph for what a bundle's run raised, Python's traceback for everything else."""
    if not _from_a_bundle(traceback):
        sys.__excepthook__(kind, error, traceback)
        return
    if _log_file() is not None:
        handler = next(h for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler))
        handler.handle(logger.makeRecord(logger.name, logging.ERROR, "", 0, "stopped", (), (kind, error, traceback)))
    if os.environ.get("LOGLEVEL", "").upper() == "DEBUG":
        sys.__excepthook__(kind, error, traceback)
    print(f"\n{told(error)}", file=sys.stderr)


def _from_a_bundle(traceback: TracebackType | None) -> bool:
    while traceback is not None:
        if str(traceback.tb_frame.f_globals.get("__name__", "")).startswith("monai.bundle"):
            return True
        traceback = traceback.tb_next
    return False
