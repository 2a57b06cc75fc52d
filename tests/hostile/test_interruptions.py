"""Runs that are stopped, at any moment and in any way: run again they give the same bits, and nothing is left over."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.hostile.stopped import LEFT, VERBS, listing, results, start
from tests.hostile.warm import Run

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STATUS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGINT: -signal.SIGINT}
TIMES = random.Random(17)
BY_CHANCE = ("train", "unlearn", "evaluate", "simulate")
# every moment of each verb with one of the signals in turn, and of some a moment that chance chose
CASES = [
    (verb, moment, SIGNALS[(place + number) % 3])
    for place, (verb, how) in enumerate(VERBS.items())
    for number, moment in enumerate([*how.moments, f"{TIMES.uniform(0.05, 1):.2f} s"])
    if number < len(how.moments) or verb in BY_CHANCE
]


def stop_at(moment: str, stopped: Run, output: Path, number: signal.Signals) -> None:
    """Send the signal when the moment has come, or the run has ended before."""
    if moment.endswith(" s"):
        time.sleep(float(moment.removesuffix(" s")))
    else:
        folder, pattern = (output.parent, moment[3:]) if moment.startswith("../") else (output, moment)
        while not any(folder.glob(pattern)) and stopped.ended() is None:
            time.sleep(0.002)
    if stopped.ended() is None:
        os.kill(stopped.pid, number)


@pytest.mark.parametrize(("verb", "moment", "number"), CASES, ids=lambda value: getattr(value, "name", str(value)))
def test_run_again_it_gives_the_same_bits(warm, inputs, undisturbed, tmp_path, verb, moment, number):
    expected, files = undisturbed(verb)
    output = tmp_path / "out"
    stopped = start(warm, verb, inputs, output)
    stop_at(moment, stopped, output, number)
    status = stopped.finish()
    while_loading = status == 1 and "Stopped by Ctrl-C" in stopped.says()
    assert while_loading or status in (0, STATUS[number], -number), stopped.says()
    if number != signal.SIGKILL:
        assert "Traceback" not in stopped.says() or moment.endswith(" s")  # before the verb has begun
        assert verb == "protocol" or not list(tmp_path.rglob(LEFT[0]))
    if results(verb, output) != expected or listing(output) != files:
        again = start(warm, verb, inputs, output, **VERBS[verb].again)
        assert again.finish() == 0, again.says()
        assert not [path for pattern in LEFT for path in tmp_path.rglob(pattern)]
    assert results(verb, output) == expected
    assert listing(output) == files
