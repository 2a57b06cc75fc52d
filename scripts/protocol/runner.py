"""Runs cells, side by side where asked, through joblib."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path

from filelock import Timeout
from joblib import Parallel, delayed, parallel_config

from scripts.protocol.cells import FAILED, Context, run_cell
from scripts.protocol.plan import Cell
from scripts.run.files import held

logger = logging.getLogger(__name__)


def run_cells(
    cells: Sequence[Cell],
    context: Context,
    devices: Sequence[str],
    n_jobs: int,
    original: str | None = None,
    scheduler: str | None = None,
) -> dict[str, dict]:
    """Run every cell and return name -> record. Finished cells are passed over; a failed one does not stop the others.

    Args:
        cells: Any order; they must not depend on each other.
        context: What all cells share.
        devices: PyTorch devices; each of the ``n_jobs`` workers takes one, in turn.
        n_jobs: Cells at the same time; with 1 they run in this process.
        original: The weights of G, for unlearning.
        scheduler: Address of a Dask scheduler, whose workers run the cells; None: this machine does.
    """
    context.root.mkdir(parents=True, exist_ok=True)
    if scheduler is None:
        slots = [(context.root / f".device-{i}.lock", devices[i % len(devices)]) for i in range(n_jobs)]
        engine = _on_this_machine(n_jobs, context.threads)
        run = partial(_on_free_device, context=context, slots=slots, original=original)
    else:
        from scripts.protocol import cluster  # needs a package that is optional

        engine = cluster.on_cluster(scheduler)
        expected = cluster.same_everywhere()
        run = partial(cluster.run_on_worker, context=context, original=original, expected=expected, folder=os.getcwd())
    records = {}
    with engine as parallel:
        for name, record in parallel(delayed(run)(cell) for cell in cells):
            records[name] = record
            _log(name, record, len(records), len(cells))
    return {cell.name: records[cell.name] for cell in cells}


@contextlib.contextmanager
def _on_this_machine(n_jobs: int, threads: int) -> Iterator[Parallel]:
    if n_jobs > 1:
        os.environ["TQDM_DISABLE"] = "1"  # workers inherit it: bars of several cells would overwrite each other
    with parallel_config(backend="loky", inner_max_num_threads=threads):
        yield Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")


def _on_free_device(
    cell: Cell, context: Context, slots: Sequence[tuple[Path, str]], original: str | None
) -> tuple[str, dict]:
    """Run the cell on the first device whose lock is free; there are as many locks as workers."""
    _die_with_parent()
    while True:
        for path, device in slots:
            try:
                with held(path, wait=False):
                    return cell.name, run_cell(cell, context, device, original)
            except Timeout:
                continue
        time.sleep(0.5)


@cache
def _die_with_parent() -> None:
    """Let a worker end when its parent is gone, killed ones included; called again it does nothing."""
    if multiprocessing.parent_process() is None:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _log(name: str, record: dict, done: int, total: int) -> None:
    if record["status"] == FAILED:
        logger.error("cell %d of %d, %s: failed: %s", done, total, name, record["error"])
    else:
        logger.info("cell %d of %d, %s: finished, took %.1f s", done, total, name, record["seconds"])
