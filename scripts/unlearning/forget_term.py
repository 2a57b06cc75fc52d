"""The forget term of the loss: the base of all methods that add one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from ignite.engine import Events
from monai.engines import IterationEvents
from monai.utils import CommonKeys as Keys

from scripts.data.loaders import EndlessBatches
from scripts.run.engines import Trainer
from scripts.training.batch_share import share_mean
from scripts.unlearning.frozen import Teacher

RETAIN_PART, FORGET_PART = "retain_part", "forget_part"


class ForgetTerm:
    """Handler that replaces the loss by ``retain_weight * J(r) + forget_weight * term(f)`` at ``LOSS_COMPLETED``.

    With a ``forget_loader`` every step joins the trainer's retain batch r with the next forget batch f; both parts
    stay in the trainer's output for handlers that treat them apart (``GradientProjection``). Without one the
    trainer's own batch is used: samples that a forget request marked (``forget`` in the label) take the forget term,
    the others J. So a trainer over the forget set alone reads nothing of the retain set.

    Args:
        forget_loader: Batches of the forget set, iterated without end; None: the trainer's own batch is used.
        forget_weight: The factor of the forget term.
        retain_weight: The factor of the retain loss.
    """

    def __init__(
        self, forget_loader: Iterable | None = None, forget_weight: float = 1.0, retain_weight: float = 1.0
    ) -> None:
        self.forget_loader = forget_loader
        self.forget_weight = forget_weight
        self.retain_weight = retain_weight
        self._stream = EndlessBatches(())
        self._batch: tuple = ()

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        """Loss to be minimised on forget samples: (B, 1, H, W) and their label -> (B,)."""
        raise NotImplementedError

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def start(self, engine: Trainer) -> None:
        """Restart the forget stream."""
        if self.forget_loader is not None:
            self._stream = EndlessBatches(self.forget_loader)

    def state_dict(self) -> dict:
        """The place in the forget stream."""
        return self._stream.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Resume from a kept place in the forget stream."""
        self._stream.load_state_dict(state)

    def __call__(self, engine: Trainer) -> None:
        output = engine.state.output
        if self.forget_loader is None:
            self.take(engine, engine.state.batch)
            output[Keys.LOSS] = self._own_batch(engine, output[Keys.PRED], output[Keys.LABEL])
            return
        prediction, label = self.next_forget(engine)
        output[RETAIN_PART] = self.retain_weight * output[Keys.LOSS]
        output[FORGET_PART] = self.forget_weight * share_mean(self.term(engine, prediction, label), label)
        output[Keys.LOSS] = output[RETAIN_PART] + output[FORGET_PART]

    def next_forget(self, engine: Trainer) -> tuple[torch.Tensor, dict]:
        """The trained network's prediction on the next forget batch, (B, 1, H, W), and the batch's label."""
        label = self.take(engine, next(self._stream))
        return self.output_of(engine, engine.network), label

    def take(self, engine: Trainer, batch: dict) -> dict:
        """Make a batch the one that :meth:`output_of` reads; returns its label."""
        inputs, label, args, kwargs = engine.prepare_batch(
            batch, engine.state.device, engine.non_blocking, **engine.to_kwargs
        )
        self._batch = inputs, args, kwargs
        return label

    def output_of(self, engine: Trainer, network: torch.nn.Module) -> torch.Tensor:
        """A network's reconstruction of the current forget batch: (B, 1, H, W)."""
        inputs, args, kwargs = self._batch
        return engine.inferer(inputs, network, *args, **kwargs)

    def image_of(self, engine: Trainer, teacher: Teacher) -> torch.Tensor:
        """A teacher's reconstruction of the current forget batch: (B, 1, H, W), without gradient."""
        return teacher.image(partial(self.output_of, engine))

    def _own_batch(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        forget = self.forget_weight * self.term(engine, prediction, label)
        retain = self.retain_weight * engine.loss_function(prediction, label)  # to ask which are there would wait
        return share_mean(torch.where(label["forget"], forget, retain), label)
