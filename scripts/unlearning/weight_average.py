"""The average of the weights of many steps in place of those of the last step."""

from __future__ import annotations

import torch
from ignite.engine import Events
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from scripts.networks.weights import unwrap
from scripts.run.engines import Trainer


class WeightAverage:
    """Handler that makes the exponential moving average of the weights the network's own at ``COMPLETED``.

    θ̄ ← decay·θ̄ + (1 − decay)·θ after each step from ``start`` on, beginning with the weights of that step, not with
    θ0, which would bring back what was forgotten. (Ignite's ``EMAHandler`` begins with θ0, copied before the weights
    are loaded.)

    Args:
        decay: The decay of the average, in (0, 1); 1/(1 − decay) is about the number of steps averaged.
        start: The share of the run before averaging begins, in [0, 1).

    Raises:
        ValueError: ``decay`` or ``start`` is out of range.
    """

    def __init__(self, decay: float = 0.95, start: float = 0.5) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"weight average: 'decay': expected in (0, 1), found {decay}")
        if not 0 <= start < 1:
            raise ValueError(f"weight average: 'start': expected in [0, 1), found {start}")
        self.decay = decay
        self.start = start
        self.average: AveragedModel | None = None

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def begin(self, engine: Trainer) -> None:
        """Drop the average of an earlier run."""
        self.average = None
        self._network = unwrap(engine.network)

    def __call__(self, engine: Trainer) -> None:
        network = unwrap(engine.network)
        if engine.state.iteration <= self.start * engine.state.max_epochs * engine.state.epoch_length:
            return
        if self.average is None:
            self.average = self._average(network)
        self.average.update_parameters(network)

    def state_dict(self) -> dict:
        """The average so far; empty before averaging began."""
        return {} if self.average is None else self.average.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Resume with a kept average."""
        if state:
            self.average = self._average(self._network)
            self.average.load_state_dict(state)

    def _average(self, network: torch.nn.Module) -> AveragedModel:
        return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(self.decay), use_buffers=True)

    def finish(self, engine: Trainer) -> None:
        """Put the average into the network."""
        if self.average is not None:
            unwrap(engine.network).load_state_dict(self.average.module.state_dict())
