"""The forget gradient without its part that harms the retain set."""

from __future__ import annotations

import ignite.distributed as idist
import torch
from monai.engines import IterationEvents
from monai.utils import CommonKeys as Keys

from scripts.run.engines import Trainer
from scripts.training.batch_share import sum_over_processes
from scripts.unlearning.batches import trained_weights
from scripts.unlearning.forget_term import FORGET_PART, RETAIN_PART


class GradientProjection:
    """Handler that removes from the forget gradient its part along the retain gradient, where the two conflict.

    g_f ← g_f − min(0, ⟨g_f, g_r⟩)/‖g_r‖²·g_r over all weights, g_r unchanged. List it right after a method with a
    ``forget_loader`` (:class:`ForgetTerm`). The forget part is differentiated at ``LOSS_COMPLETED``, so its graph is
    freed before the retain part's ``backward``; the two are added at ``BACKWARD_COMPLETED``. Both carry the factor of
    the mixed-precision scaler, if there is one, on which the rule does not depend.

    Source: Yu et al. 2020 (PCGrad), one-sided.

    Raises:
        ValueError: No method left a forget part; raised at the first step.
    """

    def __init__(self) -> None:
        self._forget: dict[str, torch.Tensor] = {}

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self.differentiate)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def differentiate(self, engine: Trainer) -> None:
        """Take the forget part out of the loss and keep its gradient."""
        output = engine.state.output
        if FORGET_PART not in output:
            raise ValueError(
                "gradient projection: expected to be listed after a method with a 'forget_loader', found none"
            )
        forget = output.pop(FORGET_PART)
        if engine.amp and engine.scaler is not None:
            forget = engine.scaler.scale(forget)
        weights = trained_weights(engine.network)
        gradients = torch.autograd.grad(forget, list(weights.values()), materialize_grads=True)
        processes = idist.get_world_size()
        self._forget = {n: sum_over_processes(g) / processes for n, g in zip(weights, gradients, strict=True)}
        output[Keys.LOSS] = output.pop(RETAIN_PART)

    @torch.no_grad()
    def __call__(self, engine: Trainer) -> None:
        weights = trained_weights(engine.network)
        retain = {n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in weights.items()}
        product = sum(((self._forget[name] * retain[name]).sum() for name in weights), torch.zeros(()))
        square = sum((retain[name].square().sum() for name in weights), torch.zeros(()))
        share = torch.where(square > 0, product.clamp(max=0) / square, 0.0)
        for name, weight in weights.items():
            weight.grad = retain[name] + self._forget[name] - share * retain[name]
