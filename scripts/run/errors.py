"""The one way in which an error reaches a person: a short paragraph; the traceback goes to the log."""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Callable
from pydoc import ErrorDuringImport
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger(__name__)
# what a person's mistake raises; anything else is more likely a fault of the program
MISTAKES = (ValueError, OSError, ImportError, MemoryError, RuntimeError, TypeError, NameError, SyntaxError)
PACKAGES = {"skimage": "scikit-image", "PIL": "pillow", "yaml": "pyyaml", "ignite": "pytorch-ignite"}  # by module
LONGEST = 1200  # characters of a message; what a file holds may be longer
EXPLAINED = {MemoryError: "not enough memory", KeyboardInterrupt: "stopped by Ctrl-C"}
unshown: list[OSError] = []  # of lines that standard output did not take, where the run went on
_kept: list[Callable[[], str]] = []  # what each run that has begun leaves, and how to go on
_before: list[Any] = []  # what SIGTERM did before the first of them


def install() -> None:
    """From here on an error that leaves a bundle's run is told in one paragraph; call it before anything can fail."""
    sys.excepthook = _tell


def forgive_letters() -> None:
    """From here on a terminal that cannot show a letter, such as one of ASCII, shows its number and ends no run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError):  # a stream that became a pipe after Python had opened it
                stream.reconfigure(errors="backslashreplace")


def lost_output(tried: bool = False) -> str | None:
    """What to say where standard output did not take all that was printed, such as on a full disk; else None.

    Nothing is printed there afterwards: Python would try again when it ends, and say so in its own words.

    Args:
        tried: Write an empty line to learn it: an error arose that may be that of a line, of which nothing is left.
    """
    try:
        if unshown:
            raise unshown[0]
        if sys.stdout is not None:
            print(end="\n" if tried else "", flush=True)
    except OSError as error:
        unshown.clear()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return f"Error: standard output: {error.strerror}: not all lines were shown"
    return None


def tell_what_is_kept(kept: Callable[[], str] | None) -> None:
    """From here on an end by error, Ctrl-C or SIGTERM also tells what is kept and how to go on; None: no longer.

    Runs within a run, as those of ``protocol``, tell theirs in turn.
    """
    if kept is not None:
        _kept.append(kept)
    elif _kept:
        _kept.pop()
    if threading.current_thread() is threading.main_thread():
        if len(_kept) == 1 and kept is not None:
            _before[:] = [signal.signal(signal.SIGTERM, _terminate)]
        elif not _kept and _before:
            signal.signal(signal.SIGTERM, _before.pop())


def _terminate(number: int, frame: FrameType | None) -> None:
    """End at once, by way of everything that cleans up, with the status that a shell gives to SIGTERM."""
    if multiprocessing.parent_process() is None:
        print(f"\n{_filled(['Stopped by SIGTERM.', *_what_is_kept()])}", file=sys.stderr, flush=True)
    sys.exit(128 + number)


def own_error(error: BaseException) -> BaseException:
    """The error below MONAI's wrappers, which only say which expression or component of a config failed."""
    while error.__cause__ is not None and str(error).startswith("Failed to "):
        error = error.__cause__
    if isinstance(error, ErrorDuringImport) and error.value is not None:  # Ctrl-C while a module loads, say
        return error.value
    return error


def _above_own(error: BaseException) -> str:
    """What MONAI says of the expression or component in which the own error arose."""
    while error.__cause__ is not None and str(error.__cause__).startswith("Failed to "):
        error = error.__cause__
    return str(error).partition(" with keywords")[0].strip()


def message_of(error: BaseException) -> str:
    """What is told of an error: its own words, without MONAI's wrappers and hints for developers.

    >>> message_of(ValueError("seed: expected a whole number, found 'abc'"))
    "seed: expected a whole number, found 'abc'"
    """
    cause = own_error(error)
    text = str(cause).partition("\n\nFor details about installing")[0].strip()
    if isinstance(cause, (NameError, SyntaxError)) and cause is not error:  # in an expression of the command line
        text = f"{_above_own(error)}: {text}"
    if isinstance(cause, ModuleNotFoundError) and cause.name and cause.name.partition(".")[0] != "scripts":
        top = cause.name.partition(".")[0]
        text += f": expected the package {PACKAGES.get(top, top)}: pip install {PACKAGES.get(top, top)}"
    if isinstance(cause, KeyError) and cause.args:
        text = str(cause.args[0])
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
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
    lines += _what_is_kept()
    if not isinstance(cause, KeyboardInterrupt):
        log = _log_handler()
        lines.append(f"(The traceback: {log.baseFilename if log else 'set LOGLEVEL=DEBUG'}.)")
    tried = isinstance(cause, OSError) and cause.errno is not None and cause.filename is None
    if lost := lost_output(tried):
        lines[: int(tried)] = [lost]
    return _filled(lines)


def _what_is_kept() -> list[str]:
    return [_kept[-1]()] if _kept else []


def _filled(lines: list[str]) -> str:
    return "\n".join(textwrap.fill(line, 118, break_long_words=False, break_on_hyphens=False) for line in lines)


def _log_handler() -> logging.FileHandler | None:
    files = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.FileHandler)]
    return next((handler for handler in reversed(files) if handler.baseFilename != os.devnull), None)


def _tell(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """``sys.excepthook``: a paragraph for what a bundle's run raised, Python's traceback for everything else."""
    if not _from_a_bundle(traceback):
        sys.__excepthook__(kind, error, traceback)
        return
    log = _log_handler()
    if log is not None:
        log.handle(logger.makeRecord(logger.name, logging.ERROR, "", 0, "stopped", (), (kind, error, traceback)))
    if os.environ.get("LOGLEVEL", "").upper() == "DEBUG":
        sys.__excepthook__(kind, error, traceback)
    print(f"\n{told(error)}", file=sys.stderr)


def _from_a_bundle(traceback: TracebackType | None) -> bool:
    while traceback is not None:
        if str(traceback.tb_frame.f_globals.get("__name__", "")).startswith("monai.bundle"):
            return True
        traceback = traceback.tb_next
    return False
