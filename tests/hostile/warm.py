"""A process that has loaded everything and forks for each command, so that a verb starts at once and ends as ever.

``python -m tests.hostile.warm`` reads one request a line and answers each with one line, both JSON.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.verbs import CONFIGS

ROOT = CONFIGS.parents[1]


class Run:
    """A command that has been started, in a process group of its own.

    Attributes:
        pid: The process.
        output: What it says on standard output and standard error.
    """

    def __init__(self, warm: Warm, pid: int, output: Path) -> None:
        self.warm, self.pid, self.output = warm, pid, output
        self._status: int | None = None

    def ended(self) -> int | None:
        """The exit status, negative where a signal ended it; None while it runs."""
        if self._status is None:
            self._status = self.warm.ask(wait=self.pid)
        return self._status

    def finish(self, seconds: float = 240) -> int:
        """Wait for its end, and ten seconds more for the end of all that it started."""
        deadline = time.monotonic() + seconds
        while (status := self.ended()) is None:
            assert time.monotonic() < deadline, f"still at work: {self.says()}"
            time.sleep(0.01)
        deadline = time.monotonic() + 10
        while self._group_lives():
            assert time.monotonic() < deadline, "a process that it started is alive"
            time.sleep(0.05)
        return status

    def steps(self) -> list[str]:
        """Its steps on the disk so far, such as "os.rename /…/unlearned.pt"."""
        return self.output.with_suffix(".steps").read_text(encoding="utf-8").splitlines()

    def says(self) -> str:
        """What it has said, on one line."""
        return " ".join(self.output.read_text(encoding="utf-8", errors="replace").split())

    def _group_lives(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


class Warm:
    """The process, seen from the tests."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{CONFIGS.parent}", "PYTHONWARNINGS": "ignore"}
        environment |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "LOGLEVEL": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.warm"],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, **request: Any) -> Any:
        """Send one request and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(
        self,
        module: str,
        *words: object,
        cwd: Path,
        output: Path,
        most_bytes: int | None = None,
        stop: tuple[int, int] | None = None,
    ) -> Run:
        """Run ``python -m module words``.

        Args:
            module, words: The command.
            cwd: Its working directory.
            output: File for what it says; its steps on the disk are written beside it.
            most_bytes: What a file may have, as on a disk that is full.
            stop: The number of a step on the disk, and of the signal that the process gets there.
        """
        request = {"module": module, "words": [str(word) for word in words], "cwd": str(cwd), "output": str(output)}
        return Run(self, self.ask(**request, most_bytes=most_bytes, stop=stop), output)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(60)


class Steps:
    """What the main thread does with the tests' files, one line a step; at one of them the process gets a signal.

    Args:
        below: Folder of the tests; what lies elsewhere is no step.
        report: File for the lines.
        stop: The number of the step, from 1, and of the signal; None: the run is left alone.
    """

    def __init__(self, below: Path, report: Path, stop: tuple[int, int] | None) -> None:
        self._below, self._process, self._count = f"{below}/", os.getpid(), 0
        self._at, self._signal = stop or (0, 0)
        self._report = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        sys.addaudithook(self._heard)
        self._open_hdf5()

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"):
            self._step(event, arguments[0])

    def _open_hdf5(self) -> None:
        """HDF5 opens files without Python."""
        import h5py

        opened = h5py.File.__init__

        def announced(file: h5py.File, name: Any, *more: Any, **named: Any) -> None:
            self._step("hdf5", name)
            opened(file, name, *more, **named)

        h5py.File.__init__ = announced

    def _step(self, event: str, path: Any) -> None:
        if not isinstance(path, (str, os.PathLike)) or threading.current_thread() is not threading.main_thread():
            return
        place = os.path.abspath(path)
        if place.startswith(self._below) and "/tensorboard" not in place and os.getpid() == self._process:
            self._count += 1
            os.write(self._report, f"{event} {place}\n".encode())
            if self._count == self._at:
                os.kill(self._process, self._signal)


def run_as_a_command(request: dict[str, Any]) -> None:
    """In the forked process: become what ``python -m module words`` is."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    os.chdir(request["cwd"])
    said = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    if request["most_bytes"] is not None:
        said = _passed_on(said)  # what it says has room
    for number, handle in enumerate((os.open(os.devnull, os.O_RDONLY), said, said)):
        os.dup2(handle, number)
    os.close(said)
    if request["most_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["most_bytes"], resource.RLIM_INFINITY))
    else:
        Steps(Path(request["cwd"]).parent, Path(request["output"]).with_suffix(".steps"), request["stop"])
    sys.argv = [request["module"], *request["words"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def _passed_on(file: int) -> int:
    """A pipe whose content another process writes to a file."""
    source, sink = os.pipe()
    if os.fork():
        os.close(source)
        return sink
    os.close(sink)
    while block := os.read(source, 1 << 16):
        os.write(file, block)
    os._exit(0)


def serve() -> dict[str, Any] | None:
    """Answer until there are no more requests: None; in a forked process return its request."""
    import monai.bundle  # noqa: F401 what every verb needs, loaded once

    import scripts.audit
    import scripts.certificate.certificate
    import scripts.inference
    import scripts.phantoms
    import scripts.protocol
    import scripts.run.start
    import scripts.shipping.assemble
    import scripts.unlearning  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid, status = os.waitpid(request["wait"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif answer := os.fork():
            pass
        else:
            return request
        print(json.dumps(answer), flush=True)
    return None


if __name__ == "__main__":
    if (asked := serve()) is not None:
        run_as_a_command(asked)
