"""A process in which one implementation is measured; it is told what to do, line by line, by `session.Session`.

It runs in the interpreter of that implementation, so it imports nothing but PyTorch before it is told to.
"""

from __future__ import annotations

import json
import os
import sys
import time

import torch

from tests.benchmarks.speed import worker_data, worker_network

JOBS = {**worker_network.JOBS, **worker_data.JOBS}


def settings(threads: int, clock: str) -> None:
    """Threads, and the clock: `wall`, or `cpu` (of this process, for a machine that has other work as well)."""
    torch.set_num_threads(threads)
    worker_network.clock = worker_data.clock = time.process_time if clock == "cpu" else time.perf_counter


def main() -> None:
    """Answer requests `{"job": name, "arguments": {…}}`, one JSON line each, until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed goes to stderr
    jobs = {**JOBS, "settings": settings}
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(jobs[request["job"]](**request["arguments"])), file=answers, flush=True)


if __name__ == "__main__":
    main()
