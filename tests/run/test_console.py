"""What a person sees, and what only the log of a run holds."""

import io
import logging
import shlex
import sys

import pytest

from scripts.run import console
from scripts.run.console import command_of

pytestmark = pytest.mark.usefixtures("contained")


@pytest.fixture
def shown(capsys):
    """Lines on standard output after the handler of logging.conf was exchanged."""
    root, own = logging.getLogger(), logging.getLogger("scripts")
    levels = root.level, own.level
    declared = logging.StreamHandler()
    declared.name = console.DECLARED
    root.addHandler(declared)
    root.setLevel(logging.INFO)
    console.show()
    yield lambda: capsys.readouterr().out.splitlines()
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def test_lines_for_a_person_and_warnings_alone(shown):
    logging.getLogger("scripts.x").info("forgot 10 scans")
    logging.getLogger("scripts.x").debug("read 10 files")
    logging.getLogger("monai.bundle.scripts").info("--- input summary")
    logging.getLogger("monai.x").warning("something to do")
    assert shown() == ["forgot 10 scans", "Warning: something to do"]


def test_a_terminal_that_lacks_a_letter_ends_no_run(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr("sys." + name, io.TextIOWrapper(io.BytesIO(), "ascii"))
    console.show()
    console.Console().emit(
        logging.makeLogRecord({"name": "scripts.x", "msg": "trained on … scans", "levelno": logging.INFO})
    )
    sys.stdout.flush()
    assert sys.stdout.buffer.getvalue() == b"trained on \\u2026 scans\n"


def test_a_logging_file_of_ones_own_stays():
    before = list(logging.getLogger().handlers)
    console.show()
    assert logging.getLogger().handlers == before


def test_what_is_said_before_the_log_is_opened_is_in_it(tmp_path, shown):
    early = console.keep_early()
    logging.getLogger("scripts.x").debug("checked")
    log = logging.FileHandler(tmp_path / "run.log")
    console.hand_over(early, log)
    log.close()
    assert (tmp_path / "run.log").read_text() == "checked\n"
    assert early not in logging.getLogger().handlers


def test_a_command_can_be_pasted_into_a_shell():
    command = command_of("unlearn", "approximate.yaml", datalist="my data/list.json", weights=None)
    assert command.startswith("python -m monai.bundle run unlearn --config_file ")
    assert shlex.split(command)[6].startswith("['")
    assert "','" in shlex.split(command)[6]
    assert command.endswith(" --datalist 'my data/list.json'")
    assert "weights" not in command
