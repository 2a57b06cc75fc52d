"""Muon: momentum made orthogonal, for fewer steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from torch import Tensor

from scripts.run.kinds import BELOW_ONE, Positive, check_arguments

COEFFICIENTS = 3.4445, -4.7750, 2.0315
"""Of the quintic iteration that takes all singular values to about 1, from Jordan et al. 2024."""
ITERATIONS = 5
BETAS = 0.9, 0.999
EPS = 1e-8


class Muon(torch.optim.Optimizer):
    """Momentum whose singular values are all set to 1, for convolutions and matrices; Adam for all else.

    A convolution's weight (out, in, h, w) counts as a matrix (out, in·h·w). Every direction of the weight space is then
    walked at the same pace, and so a network that begins anew needs fewer steps than with Adam. PyTorch's own ``Muon``
    takes matrices alone. Matrices of fewer than three rows or columns, biases and scalars go by Adam. Complex weights
    are treated as such by the one, and as pairs of real ones by the other.

    Args:
        params: The parameters; those without a gradient are left alone.
        lr: The step of a matrix, as its largest singular value; times √(rows / columns) where it has more rows.
        adam_lr: The learning rate of the others.
        momentum: The factor of Nesterov's momentum.

    Source: Jordan et al. 2024 (Muon: an optimizer for hidden layers); Kingma and Ba 2015 (Adam).
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: Positive = 0.02,
        adam_lr: Positive = 4e-3,
        momentum: Annotated[float, BELOW_ONE] = 0.95,
    ) -> None:
        check_arguments(self, {"lr": lr, "adam_lr": adam_lr, "momentum": momentum})
        params = list(params)
        matrices = [p for p in params if p.ndim >= 2 and min(p.shape[0], p[0].numel()) > 2]
        chosen = {id(p) for p in matrices}
        groups: list[dict[str, Any]] = [{"params": matrices, "lr": lr, "orthogonal": True}]
        others = [p for p in params if id(p) not in chosen]
        groups.append({"params": others, "lr": adam_lr, "orthogonal": False})
        super().__init__([group for group in groups if group["params"]], {"momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure`` recomputes the loss, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = _orthogonal_step if group["orthogonal"] else _adam_step
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.sub_(update(weight.grad, self.state[weight], group["momentum"]), alpha=group["lr"])
        return loss


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix with its singular values set to about 1 (0.7 to 1.2), by ``ITERATIONS`` of a quintic polynomial.

    Args:
        matrix: (rows, columns), real or complex; zero stays zero.

    Example:
        >>> torch.linalg.svdvals(orthogonalised(torch.diag(torch.tensor([3.0, 0.5, 0.1])))).gt(0.6).all()
        tensor(True)
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalised(matrix.mH).mH
    a, b, c = COEFFICIENTS
    x = matrix / matrix.norm().clamp(min=torch.finfo(matrix.dtype).tiny)
    for _ in range(ITERATIONS):
        square = x @ x.mH
        x = a * x + (b * square + c * square @ square) @ x
    return x


def _orthogonal_step(gradient: Tensor, state: dict[str, Any], momentum: float) -> Tensor:
    if not state:
        state["momentum"] = torch.zeros_like(gradient)
    state["momentum"].mul_(momentum).add_(gradient)
    matrix = (gradient + momentum * state["momentum"]).flatten(1)
    rows, columns = matrix.shape
    return orthogonalised(matrix).reshape(gradient.shape) * max(1.0, rows / columns) ** 0.5


def _adam_step(gradient: Tensor, state: dict[str, Any], momentum: float) -> Tensor:
    if gradient.is_complex():
        return torch.view_as_complex(_adam_step(torch.view_as_real(gradient), state, momentum))
    if not state:
        state.update(step=0, mean=torch.zeros_like(gradient), square=torch.zeros_like(gradient))
    state["step"] += 1
    for name, value, beta in zip(("mean", "square"), (gradient, gradient.square()), BETAS, strict=True):
        state[name].lerp_(value, 1 - beta)
    mean, square = (state[n] / (1 - beta ** state["step"]) for n, beta in zip(("mean", "square"), BETAS, strict=True))
    return mean / (square.sqrt() + EPS)
