"""What every part of the benchmark is told."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.speed.session import Worker


@dataclass
class Options:
    """Settings of a run.

    Attributes:
        folder: for tables, plots and files handed over.
        peer: interpreter with fastMRI, or None.
        sizes: of `network.CASES` and `data.CASES`, e.g. `demo` and `published`.
        repeats: of each measurement.
        threads: of PyTorch.
        clock: `wall`, or `cpu` on a machine that has other work.
        compiled: measure the compiled network too.
        device: `cpu` or `cuda`, of the network, in every part that has one.
        unlearn_record: a run record of `unlearn`; None: run it.
    """

    folder: Path
    peer: str | None
    sizes: tuple[str, ...]
    repeats: int
    threads: int = 1
    clock: str = "wall"
    compiled: bool = False
    device: str = "cpu"
    unlearn_record: str | None = None

    def worker(self, peer: bool = False) -> Worker:
        """A new process of ours, or of fastMRI's interpreter."""
        return Worker(self.peer if peer else sys.executable, self.threads, self.clock)
