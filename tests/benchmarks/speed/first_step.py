"""Runs ``unlearn`` on a datalist up to its first step and prints when that was: a process of its own."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import pkgutil
import sys
import tempfile
import time
from collections.abc import Iterator

import fire
import monai.bundle
from ignite.engine import Events

import scripts
from scripts.run.engines import Trainer
from tests.benchmarks.speed.session import REPOSITORY

CONFIG = REPOSITORY / "bundle" / "configs" / "unlearn.yaml"
SKIPPED = ("scripts.shipping.deploy_app", "scripts.serving", "scripts.protocol.cluster")  # their packages are optional
LAST = "the first step is done"
moments: dict[str, tuple[float, float]] = {}
began: list[float] = []


class FirstStep:
    """Handler that notes when the run starts and has its first step behind it, and ends it there."""

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, note, "the trainer starts")
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self.end)

    def end(self) -> None:
        """End the run by an error, so that nothing waits for the hashes of all files."""
        note(LAST)
        raise InterruptedError(LAST)


def note(moment: str) -> None:
    """Keep the seconds since the last import, by the wall and of the processor."""
    moments[moment] = time.perf_counter() - began[0], time.process_time() - began[1]


@contextlib.contextmanager
def ended() -> Iterator[None]:
    """Pass over the error by which the first step ends the run, and over no other."""
    try:
        yield
    except RuntimeError:
        if LAST not in moments:
            raise


def main(datalist: str) -> None:
    """Print the moments as JSON: name -> (wall, processor), in seconds."""
    for module in pkgutil.walk_packages(scripts.__path__, "scripts."):
        if not module.name.startswith(SKIPPED):
            importlib.import_module(module.name)
    logging.disable(logging.INFO)
    began[:] = time.perf_counter(), time.process_time()
    request = {"request_id": "speed", "reason": "a measurement", "forget": [{"anatomy": "knee"}]}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr), ended():
        monai.bundle.run(
            "unlearn",
            config_file=str(CONFIG),
            datalist=datalist,
            forget_request=request,
            output_dir=folder,
            method_name="none, a measurement",
            method=[{"_target_": "tests.benchmarks.speed.first_step.FirstStep"}],
            check_values=False,
            oracle_weights=None,
        )
    print(json.dumps(moments))


if __name__ == "__main__":
    from tests.benchmarks.speed import first_step  # by the name under which the configuration finds the handler

    fire.Fire(first_step.main)
