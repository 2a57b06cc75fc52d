"""The study on a Dask cluster: the local engine's bits, also where a worker dies; what is refused."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.run.errors import own_error
from tests.protocol.conftest import at_work, protocol, untimed

pytestmark = pytest.mark.usefixtures("contained")
NOBODY = "tcp://127.0.0.1:9"  # the port of the discard protocol: no Dask scheduler


def refused(tiny_datalist, **overrides) -> str:
    """What the study is refused with, before it has written anything."""
    with pytest.raises(RuntimeError) as error:
        protocol(tiny_datalist, "out", **{"engine": "dask", **overrides})
    assert list(Path().iterdir()) == []
    return str(own_error(error.value))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({}, "'scheduler': expected an address such as tcp://host:8786 with 'engine' dask, found null"),
        ({"scheduler": "here"}, "'scheduler': expected an address such as tcp://host:8786 or null, found 'here'"),
        ({"scheduler": NOBODY, "engine": "local"}, "'scheduler': expected null with 'engine' local"),
        ({"scheduler": NOBODY, "engine": "ray"}, "'engine': expected one of local, dask, found 'ray'"),
        ({"scheduler": NOBODY, "devices": ["cpu"]}, "'devices': expected null with 'engine' dask"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tiny_datalist, overrides, message):
    assert message in refused(tiny_datalist, **overrides)


def test_dask_that_is_not_installed_is_named(tiny_datalist, monkeypatch):
    monkeypatch.setattr("scripts.protocol.study.find_spec", lambda name: None)
    message = refused(tiny_datalist, scheduler=NOBODY)
    assert message == "protocol: 'engine': dask needs the package distributed: pip install -e '.[cluster]'"


@pytest.fixture
def dask():
    """Without Dask these tests skip."""
    return pytest.importorskip("distributed")


def test_a_scheduler_that_does_not_answer_is_named(dask, tiny_datalist, monkeypatch):
    monkeypatch.setattr("scripts.protocol.cluster.ANSWER_SECONDS", 1)
    message = refused(tiny_datalist, scheduler=NOBODY)
    assert message.startswith(f"scheduler: {NOBODY}: expected a Dask scheduler that answers within 1 s, found: ")


def test_a_worker_with_several_threads_is_refused(dask, tiny_datalist, tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("workers"), "--nthreads", "2") as (address, _):
        assert "expected workers of one thread" in refused(tiny_datalist, scheduler=address)


def test_workers_that_differ_are_refused(dask, tiny_datalist):
    from scripts.protocol.cluster import check_worker, same_everywhere

    own = same_everywhere()
    check_worker(own, "/", tiny_datalist)
    with pytest.raises(RuntimeError, match=r"'torch': expected 1.0 as at the study's start, found 2"):
        check_worker({**own, "torch": "1.0"}, "/", tiny_datalist)
    with pytest.raises(RuntimeError, match="'code_sha256': expected 00"):
        check_worker({**own, "code_sha256": "00"}, "/", tiny_datalist)
    with pytest.raises(RuntimeError, match=re.escape("/nowhere/list.json: no such file; expected a file system that")):
        check_worker(own, "/nowhere", "list.json")


def test_a_cluster_makes_the_same_bits_although_a_worker_is_killed(dask, finished, tiny_datalist, tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("workers"), "--nthreads", "1", workers=2) as (address, workers):
        killer = threading.Thread(target=kill_at_work, args=(workers[0], Path("out").absolute()))
        killer.start()
        protocol(tiny_datalist, "out", engine="dask", scheduler=address)
        killer.join()
    assert workers[0].returncode == -signal.SIGKILL
    assert untimed(Path("out")) == untimed(finished)
    for weights in (finished / "cells").rglob("*.pt"):
        assert weights.read_bytes() == (Path("out") / weights.relative_to(finished)).read_bytes()


def kill_at_work(worker: subprocess.Popen, output: Path) -> None:
    """Kill a worker of two once two cells are at work, one in each."""
    deadline = time.monotonic() + 600
    while len(at_work(output)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    worker.kill()


@contextlib.contextmanager
def cluster(folder: Path, *options: str, workers: int = 1) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A scheduler and workers in processes of their own, whose working directory is another than the study's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:

        def start(program: str, *arguments: str) -> subprocess.Popen:
            command = [sys.executable, "-W", "ignore", "-m", f"distributed.cli.dask_{program}", "--no-dashboard"]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = stack.enter_context(subprocess.Popen([*command, *arguments], cwd=folder, **quiet))
            stack.callback(process.kill)
            return process

        start("scheduler", "--host", "127.0.0.1", "--port", str(port))
        started = [start("worker", address, "--no-nanny", *options) for _ in range(workers)]
        wait_for(address, workers)
        yield address, started


def wait_for(address: str, workers: int) -> None:
    """Wait until the workers have joined."""
    from distributed import Client

    with Client(address, timeout=600, set_as_default=False) as client:
        client.wait_for_workers(workers, timeout=600)
