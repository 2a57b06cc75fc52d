"""Runs that are stopped, at any step and in any way: run again they give the same bits, and nothing is left over."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.hostile.stopped import LEFT, VERBS, listing, results, start

pytestmark = pytest.mark.slow
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# SIGTERM ends a run at once before it has taken its folder, and by way of everything that cleans up from then on
STATUS = {
    signal.SIGKILL: (-signal.SIGKILL,),
    signal.SIGTERM: (-signal.SIGTERM, 128 + signal.SIGTERM),
    signal.SIGINT: (-signal.SIGINT,),
}


@pytest.mark.parametrize(
    ("verb", "turn"), [(verb, place % 3) for place, verb in enumerate(VERBS)], ids=lambda v: str(v)
)
def test_stopped_three_times_it_gives_the_same_bits(warm, inputs, undisturbed, tmp_path, verb, turn):
    expected, files, steps = undisturbed(verb)
    output, again = tmp_path / "out", {}
    for share, number in zip(VERBS[verb].shares, SIGNALS[turn:] + SIGNALS[:turn], strict=True):
        left = set(tmp_path.rglob(LEFT[0]))  # by a kill
        stopped = start(warm, verb, inputs, output, **again, stop=(max(1, int(share * steps)), number))
        assert stopped.finish() in STATUS[number], f"not stopped at {share}: {stopped.steps()[-1]} {stopped.says()}"
        again = VERBS[verb].again
        if number != signal.SIGKILL:
            assert "Traceback" not in stopped.says()
            assert set(tmp_path.rglob(LEFT[0])) <= left
    last = start(warm, verb, inputs, output, **again)
    assert last.finish() == 0, last.says()
    assert not [path for pattern in LEFT for path in tmp_path.rglob(pattern)]
    assert results(verb, output) == expected != {}
    assert listing(output) == files


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_study_takes_its_workers_with_it(warm, inputs, tmp_path, number):
    """Stopped while a worker trains; a study that was faster than this process is begun again."""
    for attempt in range(5):
        output = tmp_path / str(attempt) / "out"
        study = start(warm, "protocol", inputs, output, n_jobs=2)
        while not any(output.glob("cells/original/seed-0/original.log")) and study.ended() is None:
            time.sleep(0.002)
        if study.ended() is None:
            os.kill(study.pid, number)
        if study.finish() in STATUS[number]:  # which waits for the end of every process that it started
            return
    pytest.fail(f"never stopped: {study.says()}")
