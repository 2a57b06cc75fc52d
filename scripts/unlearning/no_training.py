"""The end of a method that needs no training."""

from __future__ import annotations

from ignite.engine import Events

from scripts.run.engines import Trainer


class NoTraining:
    """Handler that ends the run at ``STARTED``, before the first step: the handlers listed before it did it all."""

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Trainer) -> None:
        engine.terminate()
