"""Noisy labels on the forget set."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from scripts.run.engines import Trainer
from scripts.training.batch_share import noise_like
from scripts.unlearning.forget_term import ForgetTerm

KINDS = ("zero_mean", "positive", "replace")
SCALES = ("absolute", "max")


class NoisyLabel(ForgetTerm):
    """Learn the forget set with noise on its reference images: the term is J(x_f, y_f + λ·s·N) (Xue 2024; Graves 2021).

    Args:
        std: The factor λ; with ``scale="absolute"`` in the image's own units (fastMRI: maxima of 2e-4 ... 4e-4).
        scale: The scale s: 1 (``absolute``, the paper) or the volume's maximum (``max``).
        kind: The noise: ``zero_mean``, N(0, I), the paper; ``positive``, abs(N), a bias; ``replace``, N in place of y.
            The last two are those of the released implementation.
        forget_loader, forget_weight, retain_weight: The arguments of :class:`ForgetTerm`.

    Raises:
        ValueError: ``kind`` or ``scale`` is unknown, or ``std`` is not above 0.
    """

    def __init__(
        self,
        std: float,
        scale: str = "absolute",
        kind: str = "zero_mean",
        forget_loader: Iterable | None = None,
        forget_weight: float = 1.0,
        retain_weight: float = 1.0,
    ) -> None:
        super().__init__(forget_loader, forget_weight, retain_weight)
        for name, value, known in (("kind", kind, KINDS), ("scale", scale, SCALES)):
            if value not in known:
                raise ValueError(f"noisy label: '{name}': expected one of {', '.join(known)}, found {value!r}")
        if not std > 0:
            raise ValueError(f"noisy label: 'std': expected above 0, found {std}")
        self.std = std
        self.scale = scale
        self.kind = kind

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        return engine.loss_function(prediction, {**label, "target": self.noisy(label)})

    def noisy(self, label: dict) -> torch.Tensor:
        """The label's reference images (B, 1, h, w) with fresh noise."""
        target = label["target"]
        noise = noise_like(target, label) * self.std
        if self.scale == "max":
            noise = noise * label["max_value"].view(-1, 1, 1, 1)
        if self.kind == "positive":
            noise = noise.abs()
        return noise if self.kind == "replace" else target + noise
