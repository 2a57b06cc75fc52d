"""How far two networks are apart, in their weights and in what they represent."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def weight_distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """‖θ₁ − θ₂‖₂ / ‖θ₂‖₂ over all weights, a fraction.

    Args:
        first: The state dict of a network.
        second: That of the reference network, with the same keys and shapes.

    Raises:
        ValueError: differing keys, or a second network of zeros.

    >>> weight_distance({"w": torch.tensor([3.0, 4.4])}, {"w": torch.tensor([3.0, 4.0])})
    0.08...
    """
    if first.keys() != second.keys():
        raise ValueError(f"weights differ in their keys: {sorted(first.keys() ^ second.keys())[:5]}")
    apart = sum(float((first[key].double().cpu() - second[key].double().cpu()).square().sum()) for key in first)
    norm = sum(float(value.double().square().sum()) for value in second.values())
    if norm == 0:
        raise ValueError("weights: the reference network's are all zero")
    return (apart / norm) ** 0.5


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Linear centred kernel alignment of two sets of features: 1 for equal ones up to rotation and scale.

    Args:
        first: (n, p) features of n samples.
        second: (n, q) features of the same samples in another network.

    Returns:
        0 ... 1; NaN where the features of either do not vary. It is biased upwards where n is small beside p, q.

    Source: Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019, eq. for linear CKA.

    >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    >>> round(linear_cka(x, 3 * x.flip(1)), 6)
    1.0
    """
    first, second = first.double() - first.double().mean(0), second.double() - second.double().mean(0)
    cross = (first.T @ second).square().sum()
    scale = torch.linalg.norm(first.T @ first) * torch.linalg.norm(second.T @ second)
    return float(cross / scale)
