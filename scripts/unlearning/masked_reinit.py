"""Re-initialise the weights on which forget and retain set agree, and train mostly those."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch

from scripts.networks.weights import unwrap
from scripts.run.engines import Trainer
from scripts.unlearning.arguments import check_share
from scripts.unlearning.batches import mean_gradient
from scripts.unlearning.blind_teacher import initialise
from scripts.unlearning.saliency_mask import largest
from scripts.unlearning.step_scale import StepScale

CONVOLUTIONS = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)


class MaskedReinit(StepScale):
    """Handler that re-initialises, at ``STARTED``, the convolution weights with the smallest abs(g_r − g_f).

    g_r and g_f are the mean gradients of J over retain subset and forget set. All other weights then take
    ``others`` of each optimiser step, which with SGD is their gradient times ``others``.

    Args:
        retain_loader, forget_loader: Batches of the retain subset and of the forget set; one pass over each.
        share: The share of the convolution weights that is re-initialised, in [0, 1].
        others: The factor of the steps of all other weights, in [0, 1].
        seed: The seed of the new weights, which the network's modules draw by their own initialisation.

    Source: NeurIPS 2023 machine unlearning challenge, second place.

    Raises:
        ValueError: ``share`` or ``others`` is out of range.
    """

    def __init__(
        self, retain_loader: Iterable, forget_loader: Iterable, share: float = 0.3, others: float = 0.1, seed: int = 0
    ) -> None:
        super().__init__()
        check_share("masked re-initialisation", share=share, others=others)
        self.retain_loader = retain_loader
        self.forget_loader = forget_loader
        self.share = share
        self.others = others
        self.seed = seed

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
