"""One forward pass for two batches."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import Inferer
from torch.nn.modules.batchnorm import _BatchNorm

from scripts.networks.weights import unwrap


class SharedForward(Inferer):
    """A trainer's inferer that takes a second batch along in the forward pass of the first, where that is exact.

    Exact means: the batches differ at most in their number of samples, and the network treats each sample by itself
    (no batch normalisation, no state that a forward pass changes). Otherwise it is MONAI's ``SimpleInferer``. Both
    batches' graphs are then one, which is differentiated once.

    Example:
        >>> inferer, network = SharedForward(), torch.nn.Linear(1, 1)
        >>> inferer.offer(network, torch.ones(2, 1))
        >>> inferer(torch.ones(3, 1), network).shape, inferer.collect().shape
        (torch.Size([3, 1]), torch.Size([2, 1]))
    """

    def __init__(self) -> None:
        self._offer: tuple[torch.nn.Module, tuple] | None = None
        self._output: torch.Tensor | None = None

    def offer(self, network: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        """Offer a batch, the network's arguments (B, ...), to that network's next forward pass."""
        self._output = None
        self._offer = (network, args) if _treats_samples_alone(network) and not kwargs else None

    def collect(self) -> torch.Tensor | None:
        """The network's output on the batch offered, once; None where it was not taken along."""
        output, self._output, self._offer = self._output, None, None
        return output

    def __call__(self, inputs: torch.Tensor, network: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        first = (inputs, *args)
        if kwargs or self._offer is None or self._offer[0] is not network or not _alike(first, self._offer[1]):
            return network(*first, **kwargs)
        second = self._offer[1]
        self._offer = None
        both = network(*(torch.cat(pair) for pair in zip(first, second, strict=True)))
        output, self._output = both.split([len(inputs), len(second[0])])
        return output


def _treats_samples_alone(network: torch.nn.Module) -> bool:
    bare = unwrap(network)
    return not any(isinstance(m, _BatchNorm) for m in bare.modules()) and next(bare.buffers(), None) is None


def _alike(first: tuple, second: tuple) -> bool:
    if not all(torch.is_tensor(value) for value in first + second):
        return False
    return [(a.shape[1:], a.dtype) for a in first] == [(b.shape[1:], b.dtype) for b in second]
