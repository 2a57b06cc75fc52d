"""The training of helper networks: teachers and task vectors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import ignite.distributed as idist
import torch
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler

from scripts.networks import build_network, may_leave_unused
from scripts.run.config import running_workflows
from scripts.run.engines import Trainer
from scripts.training import BatchShare, ClipGradient, FiniteLoss, PassCounter, Progress

MAX_NORM = 0.5  # gradient clipping, as in the trainings of the bundle


def fit(
    engine: Trainer,
    network: torch.nn.Module,
    loader: Iterable,
    steps: int,
    learning_rate: float,
    description: str,
    seed: int = 0,
) -> PassCounter:
    """Train a network on J by MONAI's stock trainer: Adam, cosine decay to 0, clipping.

    The random state of the calling run is left as it is, so that a network kept from an earlier run gives the same
    results as one trained now.

    Args:
        engine: The calling trainer, whose loss, device, inferer and precision are used.
        network: The network to be trained in place, on the engine's device.
        loader: The batches, iterated again until the steps are done.
        steps: The number of optimiser steps.
        learning_rate: The learning rate at the first step.
        description: The text of the progress bar.
        seed: The seed of what the loader draws (order, masks).

    Returns:
        The passes that it cost.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    passes = PassCounter(network)
    trainer = SupervisedTrainer(
        device=engine.state.device,
        max_epochs=1,
        epoch_length=steps,
        train_data_loader=loader,
        network=_parallel(network, engine.state.device),
        optimizer=optimizer,
        loss_function=engine.loss_function,
        prepare_batch=engine.prepare_batch,
        inferer=engine.inferer,
        non_blocking=engine.non_blocking,
        decollate=False,
        amp=engine.amp,
        amp_kwargs=engine.amp_kwargs,
        to_kwargs=engine.to_kwargs,
        train_handlers=[
            passes,
            BatchShare(),
            LrScheduleHandler(schedule, epoch_level=False, print_lr=False),  # type: ignore[arg-type]  # torch's old name
            ClipGradient(MAX_NORM),
            FiniteLoss(),
            Progress(description),
        ],
    )
    with seeded(seed, engine.state.device):
        trainer.run()
    return passes


def _parallel(network: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """In a distributed run all processes train one network together."""
    if idist.get_world_size() == 1:
        return network
    devices = [device] if device.type == "cuda" else None
    unused = may_leave_unused(network)
    return torch.nn.parallel.DistributedDataParallel(network, device_ids=devices, find_unused_parameters=unused)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Random numbers from a seed inside; afterwards the random state is as it was before."""
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def initialise(network: torch.nn.Module, seed: int) -> None:
    """Draw all parameters and buffers afresh, from a seed.

    In a bundle's run the network's own constructor draws them, with whatever initialisation it has. Elsewhere nothing
    knows how to call that, and each module's ``reset_parameters`` draws what it can.
    """
    if running_workflows():
        values = tensors_of(build_network(seed))
        for name, value in tensors_of(network).items():
            value.data.copy_(values[name])
        return
    with seeded(seed):
        device = next(network.parameters()).device
        network.to("cpu")
        for module in network.modules():
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()
        network.to(device)


def tensors_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, also the buffers that no weights file holds; each tensor once.

    Example:
        >>> list(tensors_of(torch.nn.BatchNorm2d(1)))
        ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    """
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}
