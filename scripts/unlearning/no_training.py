"""The end of a method that needs no training."""

from __future__ import annotations

from ignite.engine import Engine, Events


class NoTraining:
    """Handler that ends the run at ``STARTED``, before the first step: the handlers listed before it did it all."""

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        engine.terminate()
