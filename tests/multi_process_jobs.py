"""Verbs run one after another by each process of torchrun: ``torchrun … multi_process_jobs.py jobs.json``.

A job is ``{"verb": …, "files": […], "overrides": {…}}``. Every process but the first dies where it writes below the
working directory; those that ``DIE`` names (``rank:epoch:attempt,…``) are killed at the start of that epoch.
"""

import json
import os
import signal
import sys
from pathlib import Path

import monai.bundle
import torch
from ignite.engine import Events

from scripts.networks import VarNet
from scripts.networks.norm_relu import NormLeakyRelu

RANK = int(os.environ.get("RANK", 0))


class NormGelu(torch.nn.Module):
    """`NormLeakyRelu` without a kink."""

    def forward(self, x):
        return torch.nn.functional.gelu(torch.nn.functional.instance_norm(x))


def smooth_varnet() -> VarNet:
    """A small VarNet without kinks: `NormGelu` in place of `NormLeakyRelu`."""
    network = VarNet(num_cascades=1, chans=4, pools=2, sens_chans=4, sens_pools=2)
    for block in list(network.modules()):
        for name, layer in block.named_children():
            if isinstance(layer, NormLeakyRelu):
                setattr(block, name, NormGelu())
    return network


class Die:
    """Handler that kills its process as the machine would: without a word."""

    def attach(self, engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine) -> None:
        here = (RANK, engine.state.epoch, int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)))
        if ":".join(map(str, here)) in os.environ.get("DIE", "").split(","):
            os.kill(os.getpid(), signal.SIGKILL)


def watch_writes(folder: str) -> None:
    """Raise where this process from now on writes below a folder."""

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            path, writes = arguments[0], event in ("os.mkdir", "os.rename", "os.remove", "os.chmod")
        if (
            writes
            and isinstance(path, str | bytes | Path)
            and str(Path(os.fsdecode(path)).absolute()).startswith(folder)
        ):
            raise RuntimeError(f"process {RANK} writes {path}")

    sys.addaudithook(hook)


if __name__ == "__main__":
    torch.set_num_threads(1)
    jobs = json.loads(Path(sys.argv[1]).read_text())
    if RANK > 0:
        watch_writes(os.getcwd())
    for job in jobs[:-1]:  # one process group for all of them
        monai.bundle.run(job["verb"], config_file=job["files"], **job["overrides"], finalize=[])
    monai.bundle.run(jobs[-1]["verb"], config_file=jobs[-1]["files"], **jobs[-1]["overrides"])
