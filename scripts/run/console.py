"""What a person sees while a verb runs: the lines that are meant for them; all else goes to the log of the run."""

from __future__ import annotations

import logging
import sys
import warnings
from logging.handlers import MemoryHandler

from scripts.run.progress_bar import HAS_TQDM, progress_bar

DECLARED = "consoleHandler"  # of logging.conf, which MONAI applies before anything of the bundle is read
OWN = "scripts"
MOST_EARLY = 10_000  # records


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
