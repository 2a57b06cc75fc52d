"""How long a run takes and how its rates and settings change on the way."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ignite.engine import Events
from monai.engines import IterationEvents

from scripts.networks.weights import unwrap
from scripts.run.engines import Handler, Trainer, Workflow
from scripts.run.kinds import Positive, Share
from scripts.training import Muon

logger = logging.getLogger(__name__)


def epoch_length(budget: float | None, passes: int, slices_per_step: int, epochs: int, otherwise: int) -> int:
    """Steps of each of the ``epochs`` equal parts of a run that spends a budget, at least one.

    Args:
        budget: The share of training's backward passes that may be spent, above 0; None: the run is stated in epochs.
        passes: The backward passes of training, in slices.
        slices_per_step: The slices that go backward in a step, those of teachers included.
        epochs: The number of parts.
        otherwise: The steps of an epoch where there is no budget.

    Raises:
        ValueError: The budget is not above 0.

    Example:
        >>> epoch_length(0.1, passes=3780, slices_per_step=2, epochs=4, otherwise=18)
        47
    """
    if budget is None:
        return otherwise
    if not budget > 0:
        raise ValueError(f"unlearning: 'budget': expected a share of training's passes above 0, found {budget}")
    return max(1, int(budget * passes / (slices_per_step * epochs)))


@dataclass(eq=False, repr=False)
class FastTraining(Handler):
    """Handler that gives the trainer :class:`scripts.training.Muon` in place of its optimiser, and one cycle of rates.

    The rates are peak·s(t/T), T the steps of the run: s rises from ``first`` to 1 along half a cosine within the share
    ``warm_up`` of the run and falls to 0 along the next half, so the schedule fits whatever budget the run has. They
    are set at each ``ITERATION_STARTED``; the trainer's own scheduler keeps the optimiser that is no longer used.

    Args:
        lr: The peak for matrices and convolutions, see ``Muon``.
        adam_lr: The peak for the other parameters.
        held: Patterns of names of parameters that are not trained.
        warm_up: The share of the run in which the rates rise.
        first: s at the first step, from 0 to 1.

    Source: Jordan et al. 2024 (Muon); Smith and Topin 2019 (one cycle).

    Raises:
        ValueError: A pattern matches no name.

    Example:
        >>> cycle = FastTraining(warm_up=0.5, first=0.0)
        >>> [round(cycle.share(x), 2) for x in (0.0, 0.25, 0.5, 0.75, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    exact, event = True, Events.ITERATION_STARTED  # exact: reads nothing but the batches
    lr: Positive = 0.05
    adam_lr: Positive = 4e-3
    held: Sequence[str] = ()
    warm_up: Share = 0.15
    first: Share = 0.04

    def attach(self, engine: Workflow) -> None:
        """Attach to the trainer."""
        super().attach(engine)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.hold)

    def start(self, engine: Trainer) -> None:
        """Exchange the optimiser."""
        names = dict(unwrap(engine.network).named_parameters())
        for pattern in self.held:
            if not any(fnmatchcase(name, pattern) for name in names):
                name = type(unwrap(engine.network)).__name__
                raise ValueError(
                    f"fast training: 'held': expected patterns of {name}'s parameters, found {pattern!r}: no match"
                )
        held = {name for name in names if any(fnmatchcase(name, pattern) for pattern in self.held)}
        if held:
            logger.info("fast training: %d of %d parameters are held as they are", len(held), len(names))
        self._held = [names[name] for name in held]
        trained = [weight for name, weight in names.items() if name not in held and weight.requires_grad]
        engine.optimizer.zero_grad(set_to_none=True)
        engine.optimizer.step()  # without gradients nothing happens; a scheduler that sees no step at all would warn
        self.optimizer = engine.optimizer = Muon(trained, lr=self.lr, adam_lr=self.adam_lr)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        if unwrap(engine.network) is engine.network:  # what several processes share is settled when it is wrapped
            for weight in self._held:
                weight.requires_grad_(False)  # no gradient is computed only to be dropped

    def finish(self, engine: Trainer) -> None:
        """Let what was held take gradients again."""
        for weight in self._held:
            weight.requires_grad_(True)

    def share(self, x: float) -> float:
        """s at the share x of the run, in [0, 1]."""
        if x < self.warm_up:
            return self.first + (1 - self.first) * (1 - math.cos(math.pi * x / self.warm_up)) / 2
        return (1 + math.cos(math.pi * (x - self.warm_up) / max(1 - self.warm_up, 1e-12))) / 2

    def __call__(self, engine: Trainer) -> None:
        steps = engine.state.max_epochs * engine.state.epoch_length
        factor = self.share((engine.state.iteration - 1) / steps)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def hold(self, engine: Trainer) -> None:
        """Drop the gradients of what is not trained, which no optimiser clears."""
        for weight in self._held:
            weight.grad = None

    def state_dict(self) -> dict:
        """The optimiser's state."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Continue from a kept state of the optimiser."""
        self.optimizer.load_state_dict(state)


class NoTraining(Handler):
    """Handler that ends the run at ``STARTED``, before the first step: the handlers listed before it did it all."""

    def __call__(self, engine: Trainer) -> None:
        engine.terminate()
