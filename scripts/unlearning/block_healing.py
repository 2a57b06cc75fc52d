"""Heal a perturbed network block by block: each block learns what a teacher's block does with the same input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor

from scripts.networks.weights import unwrap
from scripts.run.engines import Trainer
from scripts.training import PassCounter
from scripts.unlearning.arguments import check_positive
from scripts.unlearning.fit import fit
from scripts.unlearning.frozen import Teacher

TINY = torch.finfo(torch.float32).tiny


class BlockHealing:
    """Handler that teaches each block of the network at ``STARTED`` a teacher's output on the teacher's own input.

    All blocks learn at once, none waits for those before it, so it takes several times fewer steps than healing end to
    end; the steps of the trainer follow as the tail that makes the blocks work together. In a VarNet a block is a
    cascade's U-Net, which learns the teacher's refinement. What a teacher knows of the forget set it passes on through
    retain data too, less so the less it knows: see ``docs/methods.md``.

    Args:
        teacher: A handler listed before, e.g. ``Original``, listed before ``Perturb``. It has the network's class.
        loader: The batches of the retain subset.
        steps: The number of optimiser steps; each counts as a backward pass of its slices.
        blocks: Patterns of names of modules that map a tensor to a tensor, each called once in a forward pass.
        learning_rate: The learning rate at the first step; cosine decay to 0.
        counter: It counts the passes.
        seed: The seed of what the loader draws (order, masks).

    Source: Lee et al. 2025 (distillation robustifies unlearning); block by block: this project.

    Raises:
        ValueError: ``steps`` or ``learning_rate`` is not above 0, or a pattern matches no module.
    """

    def __init__(
        self,
        teacher: Teacher,
        loader: Iterable,
        steps: int,
        blocks: Sequence[str] = ("cascades.*.model",),
        learning_rate: float = 3e-3,
        counter: PassCounter | None = None,
        seed: int = 0,
    ) -> None:
        check_positive("block healing", steps=steps, learning_rate=learning_rate)
        self.teacher = teacher
        self.loader = loader
        self.steps = steps
        self.blocks = list(blocks)
        self.learning_rate = learning_rate
        self.counter = counter
        self.seed = seed

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Trainer) -> None:
        student = _Blocks(unwrap(engine.network), self.teacher, self.blocks)
        fit(engine, student, self.loader, self.steps, self.learning_rate, "healing block by block", self.seed,
            loss_function=_error_itself)  # fmt: skip
        if self.counter is not None:
            slices = self.steps * (getattr(self.loader, "batch_size", None) or 1)
            self.counter.add("healing block by block", forward=slices, backward=slices)


def _error_itself(errors: Tensor, label: Mapping[str, Any]) -> Tensor:
    return errors


class _Blocks(torch.nn.Module):
    """A network's blocks on a teacher's inputs; the output is their relative squared error, one for the whole batch."""

    def __init__(self, network: torch.nn.Module, teacher: Teacher, patterns: Sequence[str]) -> None:
        super().__init__()
        names = [name for name, _ in network.named_modules()]
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(f"block healing: 'blocks': expected patterns of {type(network).__name__}'s modules, "
                                 f"found {pattern!r}, which matches none")  # fmt: skip
        self.names = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
        self.blocks = torch.nn.ModuleList(network.get_submodule(name) for name in self.names)
        self.teacher = teacher

    def forward(self, *batch: Tensor) -> Tensor:
        """Sum over blocks of |student − teacher|² / |teacher|², (B,); ``batch`` is the network's input."""
        seen: list[tuple[Tensor, Tensor]] = []
        self.teacher.image(lambda network: _watch(network, self.names, seen, batch))
        error = torch.zeros((), device=batch[0].device)
        for block, (given, expected) in zip(self.blocks, seen, strict=True):
            error = error + _energy(block(given) - expected) / _energy(expected).clamp(min=TINY)
        return error.expand(len(batch[0]))


def _energy(x: Tensor) -> Tensor:
    return (torch.view_as_real(x) if x.is_complex() else x).square().sum()


def _watch(
    network: torch.nn.Module, names: Sequence[str], seen: list[tuple[Tensor, Tensor]], batch: tuple[Tensor, ...]
) -> Tensor:
    """The network's output; ``seen`` gets input and output of each named module, in the order of the calls."""
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output: seen.append((inputs[0], output))
        )
        for name in names
    ]
    try:
        return network(*batch)
    finally:
        for hook in hooks:
            hook.remove()
