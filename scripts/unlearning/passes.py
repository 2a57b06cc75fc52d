"""One pass over a loader outside the training steps: losses and gradients of many samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import torch

from scripts.networks.weights import unwrap
from scripts.run.engines import Trainer
from scripts.training.batch_share import is_padding, sum_over_processes
from scripts.unlearning.teachers import Reconstruct, Teacher

Weights = dict[str, torch.Tensor]


def batches(engine: Trainer, loader: Iterable) -> Iterator[tuple[Reconstruct, dict]]:
    """One pass: for each batch, a function from a network to its output (B, 1, H, W), and the label.

    In a distributed run these are the samples of one process: sums over them, without padding (:func:`own`), have to
    be summed over the processes.
    """
    for batch in loader:
        inputs, label, args, kwargs = engine.prepare_batch(
            batch, engine.state.device, engine.non_blocking, **engine.to_kwargs
        )
        yield partial(_reconstruct, engine, inputs, args, kwargs), label


def _reconstruct(
    engine: Trainer, inputs: torch.Tensor, args: tuple, kwargs: dict, network: torch.nn.Module
) -> torch.Tensor:
    return engine.inferer(inputs, network, *args, **kwargs)


def own(pairs: Iterable[tuple[Reconstruct, dict]]) -> Iterator[tuple[Reconstruct, dict]]:
    """The pairs of :func:`batches` without those that only repeat a sample of another process."""
    return (pair for pair in pairs if not is_padding(pair[1]))


def samples(loader: Iterable) -> Iterator[Mapping]:
    """One pass, sample by sample: batches of one.

    Example:
        >>> [batch["volume"] for batch in samples([{"slice": torch.tensor([3, 4]), "volume": ["a", "b"]}])]
        [['a'], ['b']]
    """
    for batch in loader:
        for i in range(len(next(iter(batch.values())))):
            yield {key: value[i : i + 1] for key, value in batch.items()}


def trained_weights(network: torch.nn.Module) -> Weights:
    """The bare network's weights that take part in training, by name."""
    return {name: weight for name, weight in unwrap(network).named_parameters() if weight.requires_grad}


@torch.no_grad()
def mean_loss(engine: Trainer, loader: Iterable, teacher: Teacher | None = None) -> float:
    """Mean of J over the samples of one pass, for a teacher or (None) for the trained network, without gradients."""
    network = unwrap(engine.network).eval()
    sums = torch.zeros(2, dtype=torch.float64, device=engine.state.device)  # of J, of samples
    for reconstruct, label in own(batches(engine, loader)):
        image = reconstruct(network) if teacher is None else teacher.image(reconstruct)
        values = engine.loss_function(image, label).reshape(-1)
        sums += torch.stack([values.double().sum(), sums.new_tensor(len(values))])
    total, count = sum_over_processes(sums).tolist()
    return total / count


def mean_squared_gradient(engine: Trainer, loader: Iterable) -> Weights:
    """Mean over the samples of one pass of the squared gradient of J: the diagonal of the Fisher information."""
    weights = trained_weights(engine.network)
    total = {name: torch.zeros_like(weight).abs() for name, weight in weights.items()}
    network = unwrap(engine.network).eval()
    count = 0
    for reconstruct, label in own(batches(engine, samples(loader))):
        loss = engine.loss_function(reconstruct(network), label)
        gradients = torch.autograd.grad(loss.mean(), list(weights.values()), allow_unused=True)
        for name, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient.abs().square()
        count += len(loss)
    count = int(sum_over_processes(torch.tensor(count, device=engine.state.device)))
    if not count:
        raise ValueError("importance of weights: expected at least one batch, found none")
    return {name: sum_over_processes(value) / count for name, value in total.items()}
