"""Programs beside the verbs: words that are read to the end first, and standard output that does not take all."""

import ast
import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.run import console, errors
from scripts.run.program import program
from tests.verbs import CONFIGS

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def called(monkeypatch, tmp_path):
    """Runs a program with such words; what it wrote to a file."""

    def make(file: str, times: int = 1) -> str:
        """Write … so many times."""
        Path(file).write_text("…" * times)
        print("…" * times)
        return "done"

    def fail(file: str) -> None:
        """Find no file."""
        raise FileNotFoundError(f"{file}: no such file")

    def run(*words, functions=(make, fail)):
        monkeypatch.setattr(sys, "argv", ["program", *words])
        program(*functions)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAGER", "cat")
    run.make = make
    return run


@pytest.mark.parametrize(
    "words", [["make", "a", "--tims", "2"], ["make", "a", "2", "b"], ["make"], ["mak", "a"], ["make", "a", "--help"]]
)
def test_a_mistyped_word_is_refused_before_anything_is_done(called, capsys, words):
    with pytest.raises(SystemExit) as error:
        called(*words)
    assert error.value.code == (0 if "--help" in words else 2)
    assert not Path("a").exists()
    out = capsys.readouterr()
    assert "Traceback" not in out.out + out.err


def test_one_function_or_several_and_what_they_return(called, capsys):
    called("make", "a", "2")
    called("b", functions=[called.make])
    assert capsys.readouterr().out == "……\ndone\n…\ndone\n"
    assert Path("a").read_text() == "……"


def test_a_mistake_is_a_paragraph(called):
    with pytest.raises(SystemExit, match=r"^Error: gone: no such file\n\(The traceback"):
        called("fail", "gone")


@pytest.mark.parametrize(("code", "expected"), [("ascii", b"\\u2026"), ("latin-1", b"\\u2026"), ("cp1252", b"\x85")])
def test_a_letter_that_standard_output_lacks(called, monkeypatch, code, expected):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), code))
    called("make", "a")
    assert sys.stdout.buffer.getvalue() == expected + b"\ndone\n"


def full(kind):
    """Standard output on a full disk: refused when it is flushed, at each line, or at each write."""
    raw = io.FileIO("/dev/full", "w")
    buffer = raw if kind == "unbuffered" else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, "utf-8", line_buffering=kind == "lines", write_through=kind == "unbuffered")


@pytest.fixture
def full_output(monkeypatch):
    streams = []

    def use(kind):
        streams.append(full(kind))
        monkeypatch.setattr(sys, "stdout", streams[0])

    yield use
    streams[0].close()  # an error here would be one that Python tells in its own words, too


TOLD = "Error: standard output: No space left on device: not all lines were shown"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has a device that is full")
@pytest.mark.parametrize("kind", ["buffered", "lines", "unbuffered"])
@pytest.mark.parametrize("times", [1, 20_000], ids=["short", "long"])
def test_standard_output_that_is_full(called, full_output, kind, times):
    full_output(kind)
    with pytest.raises(SystemExit) as error:
        called("make", "a", str(times))
    assert str(error.value).startswith(TOLD)
    assert "[Errno" not in str(error.value)
    assert Path("a").read_text() == "…" * times


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has a device that is full")
def test_a_verdict_that_was_not_shown(called, full_output):
    def judge(file):
        print("FAILS:", file)
        sys.exit(2)

    full_output("buffered")
    with pytest.raises(SystemExit, match=TOLD):
        called("a", functions=[judge])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has a device that is full")
@pytest.mark.parametrize("kind", ["buffered", "lines", "unbuffered"])
def test_a_line_of_a_verb_that_does_not_arrive_stops_nothing_and_is_told_once(full_output, kind):
    full_output(kind)
    console.Console().emit(logging.makeLogRecord({"name": "scripts.x", "msg": "trained", "levelno": logging.INFO}))
    assert errors.lost_output() == TOLD
    assert errors.lost_output() is None


def run(folder, module, *words, stdout=subprocess.PIPE, **environment):
    """The exit code and standard error of ``python -m``."""
    paths = {"PYTHONPATH": f"{SCRIPTS.parent}:{CONFIGS.parent}", "PYTHONUNBUFFERED": ""}
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=folder, env={**os.environ, **paths, **environment}, stdout=stdout, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr.decode("utf-8", "replace")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has a device that is full")
def test_a_verb_whose_output_is_full_ends_with_an_error(tmp_path):
    with open("/dev/full", "wb") as nowhere:
        code, said = run(
            tmp_path, "monai.bundle", "run", "help", "--config_file", str(CONFIGS / "help.yaml"), stdout=nowhere
        )
    assert code == 1
    assert TOLD in said
    assert "Traceback (" not in said
    assert "Exception ignored" not in said


def test_a_program_in_ascii_that_ends_with_a_mistake(tmp_path):
    code, said = run(tmp_path, "scripts.run.manifest", "größe", PYTHONIOENCODING="ascii")
    assert code == 1
    assert "gr\\xf6\\xdfe/manifest.json: missing: expected the manifest" in said
    assert "Traceback" not in said
    assert "RuntimeWarning" not in said  # as where its package imports a program


def test_every_program_is_run_so():
    """A module that is run on request ends with ``program``; one of MONAI Deploy has an application's own."""
    for path in SCRIPTS.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        mains = [node for node in ast.parse(text).body if isinstance(node, ast.If) and "__main__" in ast.unparse(node)]
        if mains and path.name != "deploy_app.py":
            assert ast.unparse(mains[0].body[-1]).startswith("program("), path
        assert "fire.Fire" not in text or path.name == "program.py", path
