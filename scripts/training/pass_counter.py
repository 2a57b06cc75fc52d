"""What a run costs: forward and backward passes."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events


class PassCounter:
    """Handler that counts the slices a network was run forward and backward on while the engine ran.

    Passes of every handler count, since they are seen at the network itself. Slices, not batches, are counted, so
    runs of different batch sizes compare.

    Args:
        network: the network that is trained.

    Attributes:
        forward: slices through ``network`` since the counter was attached.
        backward: slices whose gradient came back to the network's output.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network
        self.forward = 0
        self.backward = 0
        self._hook = None

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.COMPLETED, self._stop)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._failed)

    def _start(self, engine: Engine) -> None:
        self._stop(engine)
        self._hook = self.network.register_forward_hook(self._count)

    def _stop(self, engine: Engine) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _failed(self, engine: Engine, error: Exception) -> None:
        self._stop(engine)
        raise error

    def _count(self, network: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        slices = len(output)
        self.forward += slices
        if output.requires_grad:
            output.register_hook(lambda gradient: self._count_backward(slices))

    def _count_backward(self, slices: int) -> None:
        self.backward += slices
