"""Runs that are killed: the resumed run ends with the same bits, nothing is left over, no process stays alive."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.files import file_sha256
from tests.verbs import CONFIGS, SMALL

ROOT = CONFIGS.parents[1]
RESULTS = {"unlearned.pt", "unlearned.json", "unlearn.log", "tensorboard"}


def start(datalist: str, weights: Path, output: Path, **more: object) -> subprocess.Popen:
    """A short ``unlearn`` in a process group of its own."""
    settings = {"datalist": datalist, "weights": weights, "output_dir": output, "unlearn_epochs": 3, "budget": "None"}
    settings |= {"evaluate_models": False, "enter_in_ledger": False, "resume": True, **SMALL, **more}
    command = [sys.executable, "-m", "monai.bundle", "run", "unlearn", "--config_file"]
    command += [f"['{CONFIGS / 'unlearn.yaml'}','{CONFIGS / 'methods' / 'fine_tune.yaml'}']"]
    command += [f"--{key}={value}" for key, value in settings.items()]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{CONFIGS.parent}", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )  # fmt: skip


def finish(process: subprocess.Popen) -> str:
    """What the process says until it ends, on one line; all of its group must have ended with it."""
    text = process.communicate(timeout=120)[1]
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    return " ".join(text.split())


def wait_for(path: Path, process: subprocess.Popen) -> None:
    while not path.exists() and process.poll() is None:
        time.sleep(0.005)
    assert path.exists(), process.communicate()[1]


@pytest.fixture(scope="module")
def whole(tiny_datalist, trained, tmp_path_factory) -> Path:
    """The weights of the run that nobody stopped."""
    output = tmp_path_factory.mktemp("whole") / "out"
    process = start(tiny_datalist, trained / "original.pt", output)
    text = finish(process)
    assert process.returncode == 0, text
    return output / "unlearned.pt"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_stopped_run_ends_with_the_same_bits(tiny_datalist, trained, whole, tmp_path, number):
    output = tmp_path / "out"
    stopped = start(tiny_datalist, trained / "original.pt", output)
    wait_for(output / "unlearned.checkpoint", stopped)
    stopped.send_signal(number)
    text = finish(stopped)
    assert stopped.returncode != 0
    if number != signal.SIGKILL:
        assert "same command with --resume true continues" in text
        assert "Traceback" not in text
        assert {path.name for path in output.iterdir()} <= {"unlearn.log", "tensorboard", "unlearned.checkpoint"}
    (output / ".partial-unlearned-left").write_text("by a kill while a file was written")
    resumed = start(tiny_datalist, trained / "original.pt", output)
    text = finish(resumed)
    assert resumed.returncode == 0, text
    assert file_sha256(output / "unlearned.pt") == file_sha256(whole)
    assert "resumes after epoch" in (output / "unlearn.log").read_text()
    assert {path.name for path in output.iterdir()} == RESULTS
