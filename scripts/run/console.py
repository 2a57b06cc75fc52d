"""What a person sees of a verb: lines that are meant for them, bars, and at its end what was done and comes next.

All else goes to the log of the run.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from monai.utils import optional_import

from scripts.run.config import bundle_root, is_nested
from scripts.run.errors import forgive_letters, unshown

logger = logging.getLogger(__name__)
tqdm, HAS_TQDM = optional_import("tqdm", name="tqdm")  # whoever only reconstructs need not have it
DECLARED = "consoleHandler"  # of logging.conf, which MONAI applies before anything of the bundle is read
OWN = "scripts"
MOST_EARLY = 10_000  # records


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


class Console(logging.Handler):
    """Lines on standard output, never within a progress bar: what ``scripts`` says to a person, and any warning."""

    def __init__(self, level: int = logging.INFO) -> None:
        super().__init__(level)
        self.addFilter(_is_shown)
        self.setFormatter(_Plain())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a bar that is being shown goes on below it."""
        try:
            text = self.format(record)
            if HAS_TQDM:
                progress_bar.write(text, file=sys.stdout)
            else:
                print(text)
        except OSError as error:
            unshown.append(error)  # hours of work do not end for a line; when they end it is told
        except Exception:
            self.handleError(record)


def _is_shown(record: logging.LogRecord) -> bool:
    """Whether a line is for a person; what ends a run is told in one paragraph by ``scripts.run.errors``."""
    room = record.name.partition(".")[0]
    return room == OWN or (
        record.levelno >= logging.WARNING and not (room == "ignite" and record.levelno >= logging.ERROR)
    )


class _Plain(logging.Formatter):
    """The message alone, with its level where something should be done."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.capitalize()}: "
        return level + super().format(record)


def show(silent: bool = False) -> None:
    """Put :class:`Console` in the place of the handler of ``logging.conf``; a logging file of one's own stays.

    Args:
        silent: Show warnings alone, as all processes but the first do.
    """
    forgive_letters()
    warnings.filterwarnings("ignore", "parsing config_file", UserWarning)  # MONAI's, of runs within this one
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if handler.name == DECLARED]:
        root.removeHandler(handler)
        root.addHandler(Console(logging.WARNING if silent else logging.INFO))
        logging.getLogger(OWN).setLevel(logging.DEBUG)  # details, for the log of the run


def keep_early() -> MemoryHandler:
    """Keep what is said before the folder of the run, and with it the log, is opened."""
    early = MemoryHandler(MOST_EARLY, flushLevel=logging.CRITICAL + 1)
    logging.getLogger().addHandler(early)
    return early


def hand_over(early: MemoryHandler, log: logging.Handler | None) -> None:
    """Write what was kept to the log; None: forget it."""
    logging.getLogger().removeHandler(early)
    early.setTarget(log)
    early.close()


@idist.one_rank_only()
def tell(sentence: str, saved: str | Path | None = None, then: Sequence[tuple[str, str]] = ()) -> None:
    """Say what was done; a run within another one, such as the training of a prior, says it to the log alone.

    Args:
        sentence: What was done, in whole sentences.
        saved: The file or folder to look at; None: nothing was saved.
        then: What to do next and the command for it, e.g. ``("Repeat it", "python -m …")``.
    """
    lines = ["", sentence, *([f"Saved {saved}."] if saved is not None else [])]
    lines += [f"{what}: {command}" for what, command in then]
    logger.log(logging.DEBUG if is_nested() else logging.INFO, "%s", "\n".join(lines))


def command_of(verb: str, *overlays: str, **options: Any) -> str:
    """The command that runs a verb, ready to be pasted into a shell in the present folder.

    Args:
        verb: The verb; its file is ``configs/<verb>.yaml``.
        overlays: Further files of ``configs``.
        options: Overrides; None is passed over.

    >>> command_of("audit", run="outputs/my run").partition("--config_file")[0]
    'python -m monai.bundle run audit '
    """
    files = [os.path.relpath(Path(bundle_root(), "configs", file)) for file in (f"{verb}.yaml", *overlays)]
    listed = files[0] if len(files) == 1 else f"[{','.join(map(repr, files))}]"
    plain = len(files) > 1 and not set(listed) & set('"$`\\!')
    listed = '"' + listed + '"' if plain else shlex.quote(listed)
    words: list[str] = []
    for key, value in options.items():
        words += [] if value is None else [f"--{key}", str(value)]
    return f"python -m monai.bundle run {verb} --config_file {listed} {shlex.join(words)}".rstrip()
