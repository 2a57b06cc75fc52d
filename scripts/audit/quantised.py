"""The audited model with coarser weights: forgetting that rounding undoes was none."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from scripts.audit.measure import AUDITED, QUANTISED
from scripts.evaluation.comparison import load_models

LEVELS = 127  # of int8 on either side of zero


def quantised(tensor: Tensor) -> Tensor:
    """A tensor rounded to the 255 values of symmetric int8, as floating point: s·round(x / s) with s = max|x| / 127.

    Of a complex tensor both parts are rounded, with one s.

    Source: Jacob et al., Quantization and Training of Neural Networks for Integer-Arithmetic-Only Inference, CVPR
    2018, symmetric and per tensor.

    >>> quantised(torch.tensor([127.0, 1.4, -0.6])).tolist()
    [127.0, 1.0, -1.0]
    """
    if tensor.is_complex():
        return torch.view_as_complex(quantised(torch.view_as_real(tensor)))
    scale = tensor.abs().max() / LEVELS
    return tensor if scale == 0 else (tensor / scale).round() * scale


def quantised_network(network: nn.Module) -> nn.Module:
    """A copy of a network whose weights (parameters of two dimensions or more) are quantised, each for itself.

    Source of the attack: Zhang et al., Catastrophic Failure of LLM Unlearning via Quantization, ICLR 2025 (arXiv
    2410.16454).
    """
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in copied.parameters():
            if parameter.ndim > 1 and (parameter.is_floating_point() or parameter.is_complex()):
                parameter.copy_(quantised(parameter))
    return copied


def audited_models(network: nn.Module, weights: Mapping[str, str | Path]) -> dict[str, nn.Module]:
    """The models of an audit: one for each file of weights, and the audited one quantised to int8.

    Args:
        network: Gives the architecture; it is left as it is.
        weights: model -> file, see :func:`scripts.audit.audited_weights`.
    """
    models = load_models(network, weights)
    return {**models, QUANTISED: quantised_network(models[AUDITED])}
