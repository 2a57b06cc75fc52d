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

import fire
import monai.bundle
from ignite.engine import Events

import scripts
from scripts.engines import Trainer
from tests.benchmarks.speed.session import REPOSITORY

CONFIG = REPOSITORY / "bundle" / "configs" / "unlearn.yaml"
SKIPPED = ("scripts.shipping.deploy_app", "scripts.serving", "scripts.protocol.cluster")  # their packages are optional
moments: dict[str, tuple[float, float]] = {}
began: list[float] = []


class FirstStep:
    """Handler that notes when the run starts, has its first batch and its first step behind it, and ends it there."""

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, note, "the trainer starts")
        engine.add_event_handler(Events.GET_BATCH_COMPLETED(once=1), note, "the first batch is there")
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self.end)

    def end(self) -> None:
        """End the run by an error, so that nothing waits for the hashes of all files."""
        note("the first step is done")
        raise StopIteration("the first step is done")


def note(moment: str) -> None:
    """Keep the seconds since the last import, by the wall and of the processor."""
    moments[moment] = time.perf_counter() - began[0], time.process_time() - began[1]


def main(datalist: str) -> None:
    """Print the moments as JSON: name -> (wall, processor), in seconds."""
    for module in pkgutil.walk_packages(scripts.__path__, "scripts."):
        if not module.name.startswith(SKIPPED):
            importlib.import_module(module.name)
    logging.disable(logging.INFO)
    began[:] = time.perf_counter(), time.process_time()
    request = {"request_id": "speed", "reason": "a measurement", "forget": [{"anatomy": "knee"}]}
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.suppress(RuntimeError),
        contextlib.redirect_stdout(sys.stderr),
    ):
        monai.bundle.run(
            "unlearn",
            config_file=str(CONFIG),
            datalist=datalist,
            forget_request=request,
            output_dir=folder,
            method=[{"_target_": "tests.benchmarks.speed.first_step.FirstStep"}],
            check_values=False,
            oracle_weights=None,
        )
    print(json.dumps(moments))


if __name__ == "__main__":
    fire.Fire(main)
