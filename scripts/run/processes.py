"""Several processes that train one network together, as torchrun starts them: one for each GPU, or on the CPU."""

from __future__ import annotations

import logging
import os
import zlib
from datetime import timedelta
from typing import TypeVar, cast

import ignite.distributed as idist
import torch

TIMEOUT = timedelta(minutes=30)
T = TypeVar("T")


def device() -> torch.device:
    """This process's own GPU, by ``LOCAL_RANK``, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def device_ids(device: torch.device) -> list[torch.device] | None:
    """What DistributedDataParallel has to be told of this process's device: the GPU; None on a CPU."""
    return [device] if device.type == "cuda" else None


def join() -> None:
    """Join the process group that torchrun describes in the environment; all but the first process log only warnings.

    The backend is NCCL with GPUs and Gloo without. Work that one process does alone may take up to ``TIMEOUT``.

    Raises:
        RuntimeError: The process was not started by torchrun.
    """
    if not torch.distributed.is_torchelastic_launched():
        raise RuntimeError("several processes: expected to be started by torchrun, found a single process")
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    if not torch.distributed.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        store, rank, processes = next(torch.distributed.rendezvous("env://", timeout=TIMEOUT))
        store = torch.distributed.PrefixStore(_attempt(), store)
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=processes, timeout=TIMEOUT)
    if idist.get_rank() > 0:
        logging.getLogger().setLevel(logging.WARNING)


def _attempt() -> str:
    """Prefix of this start: torchrun's store still holds the addresses of processes that died in an earlier start.

    Several machines may have counted their restarts differently; there torchrun itself has to make a new store (see
    ``bundle/docs/multi_gpu.md``).
    """
    one_machine = os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"]
    return f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT'] if one_machine else 0}"


def check_single() -> None:
    """Refuse processes that do not work together: each would do all the work and write the same files.

    Raises:
        RuntimeError: torchrun started several processes without ``multi_gpu.yaml``.
    """
    if torch.distributed.is_torchelastic_launched() and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise RuntimeError(
            f"torchrun started {os.environ['WORLD_SIZE']} processes: expected 'configs/multi_gpu.yaml' laid over "
            "train.yaml, unlearn.yaml or evaluate.yaml (the other verbs run in one process), found it missing"
        )


def broadcast(answer: bool) -> bool:
    """The first process's answer, in all processes: two that decide differently would wait for each other for ever."""
    return answer if idist.get_world_size() == 1 else bool(idist.broadcast(float(answer), src=0))


def gather(value: T) -> list[T]:
    """The value of each process, by rank, in all processes: a text, or anything else that can be pickled."""
    return [value] if idist.get_world_size() == 1 else list(cast("list[T]", idist.all_gather(value)))


def check_in_step() -> None:
    """Check that all processes have drawn the same random numbers, on which the split of every batch rests.

    Raises:
        RuntimeError: The processes have drawn different numbers.
    """
    if idist.get_world_size() > 1:
        states = gather(str(zlib.crc32(torch.get_rng_state().numpy().tobytes())))
        if len(set(states)) > 1:
            raise RuntimeError(
                "several processes: expected the same random numbers drawn in each, found different ones: "
                "a transform or handler draws more in one process than in another"
            )
