"""How the optimiser's steps change the weights: projected gradients and steps scaled weight by weight."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import ignite.distributed as idist
import torch
from monai.engines import IterationEvents
from monai.utils import CommonKeys as Keys

from scripts.networks.weights import unwrap
from scripts.run.engines import Handler, Trainer, Workflow
from scripts.run.kinds import Share
from scripts.training.batch_share import sum_over_processes
from scripts.unlearning.fit import initialise
from scripts.unlearning.passes import mean_gradient, trained_weights
from scripts.unlearning.terms import FORGET_PART, RETAIN_PART


class GradientProjection(Handler):
    """Handler that removes from the forget gradient its part along the retain gradient, where the two conflict.

    g_f ← g_f − min(0, ⟨g_f, g_r⟩)/‖g_r‖²·g_r over all weights, g_r unchanged. List it right after a method with a
    ``forget_loader`` (:class:`ForgetTerm`). The forget part is differentiated at ``LOSS_COMPLETED``, so its graph is
    freed before the retain part's ``backward``; the two are added at ``BACKWARD_COMPLETED``. Both carry the factor of
    the mixed-precision scaler, if there is one, on which the rule does not depend.

    Source: Yu et al. 2020 (PCGrad), one-sided.

    Raises:
        ValueError: No method left a forget part; raised at the first step.
    """

    event = IterationEvents.BACKWARD_COMPLETED

    def attach(self, engine: Workflow) -> None:
        """Attach to the trainer."""
        super().attach(engine)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self.differentiate)

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


@dataclass(eq=False, repr=False)
class StepScale(Handler):
    """Handler that scales each weight's optimiser step: θ ← θ_before + factor·(θ_after − θ_before).

    The weights are copied at ``BACKWARD_COMPLETED`` and corrected at ``MODEL_COMPLETED``, so a factor of 0 keeps a
    weight unchanged, whatever momentum, Adam or weight decay do. Scaling the gradient would not: Adam's steps do not
    depend on its scale. A subclass chooses the factors.
    """

    event = IterationEvents.MODEL_COMPLETED

    def choose(self, engine: Trainer) -> dict[str, torch.Tensor]:
        """At ``STARTED``: factors in [0, 1] by name of the trained weights, in their shapes."""
        raise NotImplementedError

    def attach(self, engine: Workflow) -> None:
        """Attach to the trainer."""
        super().attach(engine)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.keep)

    def start(self, engine: Trainer) -> None:
        """Choose the factors."""
        self.factors = self.choose(engine)

    def keep(self, engine: Trainer) -> None:
        """Copy the weights before the optimiser's step."""
        self._before = {name: weight.detach().clone() for name, weight in trained_weights(engine.network).items()}

    @torch.no_grad()
    def __call__(self, engine: Trainer) -> None:
        for name, weight in trained_weights(engine.network).items():
            before, factor = self._before[name], self.factors[name]
            weight.copy_(torch.where(factor == 1, weight, before + factor * (weight - before)))


@dataclass(eq=False, repr=False)
class SaliencyMask(StepScale):
    """Handler that keeps at θ0 all weights outside the top-k of abs(∇J(f)), the gradient over the whole forget set.

    SalUn is this with :class:`NoisyLabel` and the retain loss; it combines with any other method too.

    Args:
        forget_loader: Batches of the forget set; one pass is made at ``STARTED``.
        share: The share k of all weights that may move.

    Source: Fan et al. 2024 (SalUn), equation 4.
    """

    forget_loader: Iterable
    share: Share = 0.5

    def choose(self, engine: Trainer) -> dict[str, torch.Tensor]:
        saliency = {name: value.abs() for name, value in mean_gradient(engine, self.forget_loader).items()}
        return {name: mask.float() for name, mask in largest(saliency, self.share).items()}


def largest(values: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Masks (bool) of the largest values, a share of all of them together; ties are broken by position.

    Example:
        >>> largest({"a": torch.tensor([1.0, 4.0]), "b": torch.tensor([3.0, 2.0])}, share=0.5)
        {'a': tensor([False,  True]), 'b': tensor([ True, False])}
    """
    flat = torch.cat([value.flatten() for value in values.values()])
    chosen = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    chosen[flat.argsort(descending=True, stable=True)[: round(share * len(flat))]] = True
    parts = chosen.split([value.numel() for value in values.values()])
    return {name: part.view_as(values[name]) for name, part in zip(values, parts, strict=True)}


CONVOLUTIONS = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)


@dataclass(eq=False, repr=False)
class MaskedReinit(StepScale):
    """Handler that re-initialises, at ``STARTED``, the convolution weights with the smallest abs(g_r − g_f).

    g_r and g_f are the mean gradients of J over retain subset and forget set. All other weights then take
    ``others`` of each optimiser step, which with SGD is their gradient times ``others``.

    Args:
        retain_loader, forget_loader: Batches of the retain subset and of the forget set; one pass over each.
        share: The share of the convolution weights that is re-initialised.
        others: The factor of the steps of all other weights.
        seed: The seed of the new weights, which the network's modules draw by their own initialisation.

    Source: NeurIPS 2023 machine unlearning challenge, second place.
    """

    retain_loader: Iterable
    forget_loader: Iterable
    share: Share = 0.3
    others: Share = 0.1
    seed: int = 0

    def choose(self, engine: Trainer) -> dict[str, torch.Tensor]:
        retain, forget = (mean_gradient(engine, loader) for loader in (self.retain_loader, self.forget_loader))
        names = convolution_weights(unwrap(engine.network)) & retain.keys()
        agreement = {name: -(retain[name] - forget[name]).abs() for name in retain if name in names}
        redrawn = largest(agreement, self.share)
        fresh = copy.deepcopy(unwrap(engine.network))
        initialise(fresh, self.seed)
        factors = {name: torch.full_like(value, self.others) for name, value in retain.items()}
        weights, new = dict(unwrap(engine.network).named_parameters()), dict(fresh.named_parameters())
        with torch.no_grad():
            for name, mask in redrawn.items():
                weights[name].copy_(torch.where(mask, new[name], weights[name]))
                factors[name][mask] = 1.0
        return factors


def convolution_weights(network: torch.nn.Module) -> set[str]:
    """Names of the weights (not biases) of all convolutions.

    Example:
        >>> sorted(convolution_weights(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3), torch.nn.Linear(1, 1))))
        ['0.weight']
    """
    modules = dict(network.named_modules())
    return {f"{name}.weight".lstrip(".") for name, module in modules.items() if isinstance(module, CONVOLUTIONS)}
