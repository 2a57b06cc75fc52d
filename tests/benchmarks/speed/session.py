"""Workers, each in its own process and interpreter, and measurements of several of them in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

REPOSITORY = Path(__file__).parents[3]


class Worker:
    """A process that measures one implementation; a context manager.

    Args:
        python: its interpreter.
        threads: of PyTorch.
        clock: `wall` or `cpu`.
    """

    def __init__(self, python: str | Path = sys.executable, threads: int = 1, clock: str = "wall") -> None:
        self.process = subprocess.Popen(
            [str(python), "-W", "ignore", "-m", "tests.benchmarks.speed.worker"],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ask("settings", threads=threads, clock=clock)

    def ask(self, job: str, **arguments: object) -> object:
        """Have a job of `worker.JOBS` done and return its answer; RuntimeError if the worker ends."""
        print(json.dumps({"job": job, "arguments": arguments}), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(
                f"{self.process.args[0]}: the worker ended (exit status {self.process.wait()}) in {job!r}"
            )
        return json.loads(answer)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def in_turns(measures: Mapping[str, Callable[[], float]], repeats: int, passes: int = 1) -> dict[str, list[float]]:
    """Repeat measurements A, B, A, B, … after one unmeasured round; each is the mean of some passes.

    Example:
        >>> in_turns({"a": lambda: 1.0, "b": lambda: 2.0}, repeats=2)
        {'a': [1.0, 1.0], 'b': [2.0, 2.0]}
    """
    for measure in measures.values():
        measure()
    times: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repeats):
        for name, measure in measures.items():
            times[name].append(sum(measure() for _ in range(passes)) / passes)
    return times
