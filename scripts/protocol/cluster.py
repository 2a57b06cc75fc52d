"""The cells of a study on the workers of a Dask cluster, by joblib's Dask backend."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from distributed import Client
from joblib import Parallel, parallel_config
from joblib._dask import DaskDistributedBackend

from scripts.protocol.cells import Context, run_cell
from scripts.protocol.plan import Cell
from scripts.training.record import environment

ANSWER_SECONDS = 10
WORKERS_SECONDS = 600  # a cluster may start its first worker only when there is work
_one_cell = threading.Lock()  # a verb sets the threads, the search path and the log of its whole process


class _Backend(DaskDistributedBackend):
    """joblib's own computes in this process, be it a login node's, while the cluster has one worker alone."""

    def effective_n_jobs(self, n_jobs: int) -> int:
        return max(2, super().effective_n_jobs(n_jobs))


def check_cluster(scheduler: str, datalist: str) -> None:
    """Check that the scheduler answers, and that the workers which it has now could run the cells.

    Args:
        scheduler: Its address, such as ``tcp://host:8786``.
        datalist: Path of the datalist, which each worker has to see.

    Raises:
        ConnectionError: The scheduler does not answer.
        ImportError: A worker does not have this package.
        RuntimeError: A worker has several threads, or see :func:`check_worker`.
    """
    with _connected(scheduler) as client:
        for worker, threads in client.nthreads().items():
            if threads > 1:
                raise RuntimeError(
                    f"{scheduler}: expected workers of one thread (dask worker --nthreads 1), since a process runs one "
                    f"cell at a time, found {threads} threads in {worker}"
                )
        try:
            client.run(check_worker, same_everywhere(), os.getcwd(), datalist)
        except ImportError as error:
            raise ImportError(
                f"{scheduler}: expected this package installed for each worker, found: {error}"
            ) from error


@contextlib.contextmanager
def on_cluster(scheduler: str) -> Iterator[Parallel]:
    """Yield joblib's ``Parallel``, whose tasks run on the cluster, wherever a worker is free, in no certain order.

    Dask gives the task of a worker that died to another worker, and ends the study where four in turn have died of one.
    """
    with _connected(scheduler) as client:
        backend = _Backend(client=client, wait_for_workers_timeout=WORKERS_SECONDS)
        with parallel_config(backend=backend):
            yield Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")


def run_on_worker(
    cell: Cell, context: Context, original: str | None, expected: Mapping[str, str | None], folder: str
) -> tuple[str, dict]:
    """Run a cell in a worker, on the first GPU that it sees, else on its CPU; return name and record.

    Args:
        cell: What to run.
        context: What all cells share.
        original: The weights of G, for unlearning.
        expected: :func:`same_everywhere` of the process that started the study.
        folder: The working directory of that process, from which relative paths count.

    Raises:
        RuntimeError: See :func:`check_worker`.
    """
    with _one_cell:
        check_worker(expected, folder, context.datalist)
        before = os.getcwd()
        os.chdir(folder)
        try:
            return cell.name, run_cell(cell, context, "cuda:0" if torch.cuda.is_available() else "cpu", original)
        finally:
            os.chdir(before)


def same_everywhere() -> dict[str, str | None]:
    """What cells of one study must have in common: the versions of packages, and the hash of this code."""
    found = environment()
    return {**found["packages"], "code_sha256": found["code_sha256"]}


def check_worker(expected: Mapping[str, str | None], folder: str, datalist: str) -> None:
    """Refuse, in a worker, other packages or code than where the study was started, and a disk without its files.

    Raises:
        RuntimeError: naming the worker's machine, what was found and what was expected.
    """
    host, found = socket.gethostname(), same_everywhere()
    for name, value in expected.items():
        if found[name] != value:
            raise RuntimeError(
                f"worker on {host}: {name!r}: expected {value} as at the study's start, found {found[name]}"
            )
    if not (Path(folder) / datalist).is_file():
        raise RuntimeError(
            f"worker on {host}: {Path(folder) / datalist}: no such file; expected a file system that all workers share"
        )


@contextlib.contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    try:
        client = Client(scheduler, timeout=ANSWER_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:  # ValueError: no address
        raise ConnectionError(
            f"scheduler: {scheduler}: expected a Dask scheduler that answers within {ANSWER_SECONDS} s, found: {error}"
        ) from error
    with client:
        yield client
