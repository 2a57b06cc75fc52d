"""MONAI's engines, as handlers see them, and the handlers' base.

Types of their own, because Ignite declares ``state.output`` and ``state.batch`` as integers and knows nothing of the
attributes that MONAI adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from ignite.engine import Events
from monai.inferers import Inferer
from monai.utils import CommonKeys as Keys

from scripts.run.kinds import check_arguments


class Workflow(Protocol):
    """What handlers use of MONAI's ``Workflow``, be it a trainer or an evaluator."""

    state: Any
    network: torch.nn.Module
    inferer: Inferer
    prepare_batch: Callable[..., Any]
    non_blocking: bool
    amp: bool
    to_kwargs: dict[str, Any]
    amp_kwargs: dict[str, Any]

    def add_event_handler(self, event_name: Any, handler: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the handler with the engine, ``args`` and ``kwargs`` at the event."""

    def terminate(self) -> None:
        """End the run after the current iteration."""


class Trainer(Workflow, Protocol):
    """What handlers use of MONAI's ``SupervisedTrainer`` beyond that."""

    optimizer: torch.optim.Optimizer
    loss_function: Callable[..., torch.Tensor]
    scaler: Any


def loss_of(output: Mapping | Sequence[Mapping]) -> torch.Tensor | None:
    """The loss () in an engine's output, whether MONAI decollated it or not; None in evaluation.

    Example:
        >>> loss_of({"loss": torch.tensor(0.5, requires_grad=True)})
        tensor(0.5000)
    """
    first = output if isinstance(output, Mapping) else output[0]
    loss = first.get(Keys.LOSS)
    return None if loss is None else torch.as_tensor(loss).detach()


@dataclass(eq=False, repr=False)
class Handler:
    """Base of handlers whose fields are their settings, checked by their annotations (``scripts.run.kinds``).

    ``__call__`` is called with the engine at ``event``, ``start`` and ``finish`` when the run begins and ends; a
    handler has those of them that it needs.

    Raises:
        ValueError: A setting is not what its annotation says.

    Example:
        >>> class Count(Handler):
        ...     event, steps = Events.ITERATION_COMPLETED, 0
        ...     def __call__(self, engine):
        ...         self.steps += 1
        >>> from ignite.engine import Engine
        >>> count, engine = Count(), Engine(lambda engine, batch: None)
        >>> count.attach(engine)
        >>> _ = engine.run([1, 2, 3])
        >>> count.steps
        3
    """

    event: ClassVar[Any] = Events.STARTED

    def __post_init__(self) -> None:
        check_arguments(self, vars(self))

    def attach(self, engine: Workflow) -> None:
        """Attach to a trainer or evaluator."""
        for name, event in (("start", Events.STARTED), ("__call__", self.event), ("finish", Events.COMPLETED)):
            if hasattr(self, name):
                engine.add_event_handler(event, getattr(self, name))
