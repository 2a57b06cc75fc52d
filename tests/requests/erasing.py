"""A run that erases as far as the ledger sees one, without training a network; and work that is killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from scripts.requests import Cohorts, LedgerEntry
from scripts.run.files import atomic_write, file_sha256


def write_weights(path: Path, text: str) -> Path:
    """A file that stands for weights; equal texts give equal weights."""
    with atomic_write(path) as temporary:
        Path(temporary).write_text(text)
    return path


def request(name: str, *selectors: Mapping, **more) -> dict:
    return {"request_id": name, "reason": "", "forget": list(selectors), **more}


def erase(
    ledger: Path, datalist: str, asked, weights: Path, output: Path, change=None, before=None, **settings
) -> Path:
    """The weights after the run, in the folder ``output``.

    ``change``: what it cost the retain test set beside the original, in dB; ``before``: PSNR there just before.
    """
    made, record = output / "unlearned.pt", output / "unlearned.json"
    outputs = {"weights": str(made), "record": str(record)}
    entry = LedgerEntry(ledger, Cohorts(datalist, asked, ledger), weights, outputs, **{"follows": True, **settings})
    entry.check()
    remembered = entry.begin()
    write_weights(made, f"{weights.read_text()} without {entry.data.request.request_id}")
    content = {"verb": "unlearn", "weights_out": {"sha256": file_sha256(made)}, "ledger": remembered}
    if change is not None:
        levels = {"G": 30.0, "unlearned": 30.0 + change} | ({} if before is None else {"before": before})
        content["results"] = {model: {"BTA": {"psnr": {"mean": level}}} for model, level in levels.items()}
    with atomic_write(record) as temporary:
        Path(temporary).write_text(json.dumps(content))
    entry.finish()
    return made


STEPS = ("replace", "write", "fsync", "ftruncate")  # on the disk, as functions of os


def killed_at(operation: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that is killed (SIGKILL) before its n-th step on the disk; whether it ended."""
    count = 0

    def counted(real):
        def step(*args, **kwargs):
            nonlocal count
            count += 1
            if count == operation:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return step

    child = os.fork()
    if child == 0:
        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return not os.WIFSIGNALED(status)
