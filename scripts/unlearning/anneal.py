"""Settings that fade during training."""

from __future__ import annotations

import math

from ignite.engine import Events

from scripts.run.engines import Trainer

SHAPES = {"linear": lambda x: 1 - x, "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2}


class Anneal:
    """Handler that scales a number of another handler at each ``ITERATION_STARTED``: value·s(t/T), t = 0 ... T − 1.

    s falls from 1 to ``final``: s(x) = final + (1 − final)·shape(x), 1 − x (``linear``) or (1 + cos πx)/2
    (``cosine``). With γ of :class:`L1Penalty` it is l1-sparse unlearning (Jia et al. 2023); with ``forget_weight`` of
    a :class:`ForgetTerm` the method leaves the last steps to the retain set.

    Args:
        handler: The handler whose setting fades.
        name: The name of its attribute, e.g. ``gamma`` or ``forget_weight``.
        shape: The shape of the decay, ``linear`` or ``cosine``.
        final: The value of s at the end, as a share of the setting's initial value.

    Raises:
        ValueError: ``shape`` is unknown, or ``handler`` has no such number.
    """

    def __init__(self, handler: object, name: str, shape: str = "linear", final: float = 0.0) -> None:
        if shape not in SHAPES:
            raise ValueError(f"annealing: 'shape': expected one of {', '.join(SHAPES)}, found {shape!r}")
        value = getattr(handler, name, None)
        if not isinstance(value, int | float):
            raise ValueError(f"annealing: 'name': expected a number of {type(handler).__name__}, found {name!r}")
        self.handler = handler
        self.name = name
        self.value = value
        self.shape = shape
        self.final = final

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Trainer) -> None:
        share = (engine.state.iteration - 1) / (engine.state.max_epochs * engine.state.epoch_length)
        setattr(self.handler, self.name, self.value * (self.final + (1 - self.final) * SHAPES[self.shape](share)))
