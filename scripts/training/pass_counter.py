"""The cost of a run in forward and backward passes."""

from __future__ import annotations

import copy

import ignite.distributed as idist
import torch
from ignite.engine import Events
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.hooks import RemovableHandle

from scripts.networks.weights import unwrap
from scripts.run.engines import Trainer
from scripts.run.processes import gather

TRAINED, OTHERS = "trained network", "other networks"


class PassCounter:
    """Handler that counts the slices that went forward and backward through networks during the run.

    Passes of every handler count, and those of every network of the same class: teachers and copies cost as much as
    the trained network. List it before the handlers that work at ``STARTED``. Slices, not batches, are counted, so
    runs of different batch sizes compare. At ``COMPLETED`` the counts of all processes are added up.

    Args:
        network: The network that is trained.

    Attributes:
        parts: ``{"forward": slices, "backward": slices}`` by name of a part. Backward counts the slices whose gradient
            reached a network's output.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = unwrap(network)
        self.parts: dict[str, dict[str, int]] = {}
        self._hook: RemovableHandle | None = None

    @property
    def forward(self) -> int:
        """Slices forward, all parts together."""
        return sum(part["forward"] for part in self.parts.values())

    @property
    def backward(self) -> int:
        """Slices backward, all parts together."""
        return sum(part["backward"] for part in self.parts.values())

    def add(self, part: str, forward: int = 0, backward: int = 0) -> None:
        """Add slices spent outside of the run, e.g. on a teacher that was kept from an earlier run.

        Every process calls this with the same numbers, so they count once.
        """
        if idist.get_rank() == 0:
            self._add(part, forward, backward)

    def state_dict(self) -> dict:
        """The counts of all processes together."""
        return {"parts": self._all()}

    def load_state_dict(self, state: dict) -> None:
        """Continue from kept counts."""
        self.parts = copy.deepcopy(state["parts"]) if idist.get_rank() == 0 else {}

    def _add(self, part: str, forward: int = 0, backward: int = 0) -> None:
        counts = self.parts.setdefault(part, {"forward": 0, "backward": 0})
        counts["forward"] += forward
        counts["backward"] += backward

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.COMPLETED, self._complete)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._failed)

    def _start(self, engine: Trainer) -> None:
        self._stop(engine)
        self._hook = register_module_forward_hook(self._count)

    def _stop(self, engine: Trainer) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _complete(self, engine: Trainer) -> None:
        self._stop(engine)
        self.parts = self._all()

    def _all(self) -> dict[str, dict[str, int]]:
        total: dict[str, dict[str, int]] = {}
        for part, counts in (entry for parts in gather(self.parts) for entry in parts.items()):
            sums = total.setdefault(part, dict.fromkeys(counts, 0))
            for direction, slices in counts.items():
                sums[direction] += slices
        return total

    def _failed(self, engine: Trainer, error: Exception) -> None:
        self._stop(engine)
        raise error

    def _count(self, module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        if type(module) is not type(self.network):
            return
        part, slices = TRAINED if module is self.network else OTHERS, len(output)
        self._add(part, forward=slices)
        if output.requires_grad:
            output.register_hook(lambda gradient: self._add(part, backward=slices))
