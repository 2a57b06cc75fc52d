"""MONAI's engines, as handlers see them.

Types of their own, because Ignite declares ``state.output`` and ``state.batch`` as integers and knows nothing of the
attributes that MONAI adds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from monai.inferers import Inferer


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
