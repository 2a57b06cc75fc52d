"""The loss of a batch that several processes share (``scripts.data.loaders.ShareOfBatch``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import ignite.distributed as idist
import torch
from ignite.engine import Events
from monai.engines import IterationEvents
from monai.utils import CommonKeys as Keys

from scripts.run.engines import Handler, Trainer, Workflow
from scripts.run.processes import check_in_step


class BatchShare(Handler):
    """Handler that weights the loss J by this process's share of the batch, at ``LOSS_COMPLETED``.

    DistributedDataParallel takes the mean of the processes' gradients, which is the gradient of the batch only where
    all processes have the same number of samples. List this handler before those that change the loss; those take
    :func:`share_mean` of what they add. At ``EPOCH_COMPLETED`` it checks that all processes still draw the same random
    numbers. Without other processes it does nothing.

    Raises:
        RuntimeError: At the end of an epoch in which the processes drew different random numbers.
    """

    event = IterationEvents.LOSS_COMPLETED

    def attach(self, engine: Workflow) -> None:
        """Attach to the trainer."""
        super().attach(engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: check_in_step())

    def __call__(self, engine: Trainer) -> None:
        if "weight" in engine.state.output[Keys.LABEL]:
            weight = engine.state.output[Keys.LABEL]["weight"].mean()
            engine.state.output[Keys.LOSS] = weight * engine.state.output[Keys.LOSS]


def share_mean(values: torch.Tensor, label: Mapping) -> torch.Tensor:
    """The mean of per-sample values (B,), weighted so that its mean over the processes is that of the whole batch.

    Example:
        >>> values = torch.tensor([1.0, 3.0])
        >>> share_mean(values, {}), share_mean(values, {"weight": torch.tensor([0.5, 0.5])})
        (tensor(2.), tensor(1.))
    """
    return values.mean() if "weight" not in label else label["weight"].mean() * values.mean()


def is_padding(label: Mapping) -> bool:
    """Whether the batch only repeats a sample of another process, which must not count twice."""
    return "weight" in label and not bool(label["weight"].any())


def noise_like(image: torch.Tensor, label: Mapping) -> torch.Tensor:
    """Standard normal noise (B, ...): drawn for the whole batch, of which this process's samples are returned."""
    if "place" not in label:
        return torch.randn_like(image)
    whole = torch.randn(int(label["whole"][0]), *image.shape[1:], dtype=image.dtype, device=image.device)
    return whole[label["place"]]


def sum_over_processes(value: torch.Tensor) -> torch.Tensor:
    """Sum over the processes of a distributed run; the value itself without one."""
    return value if idist.get_world_size() == 1 else cast("torch.Tensor", idist.all_reduce(value))
