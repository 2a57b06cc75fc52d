"""Targets from mirror images, for single patients: the original on an unseen scan like the forgotten one."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from scripts.kspace.fourier import crop_like, mirrored
from scripts.run.engines import Trainer
from scripts.run.kinds import NotNegative
from scripts.training.batch_share import sum_over_processes
from scripts.unlearning.passes import batches, own
from scripts.unlearning.targets import GainTerm, gain
from scripts.unlearning.teachers import Original, loss_to_image

logger = logging.getLogger(__name__)
DIMS = (-1, -2)  # of an image: W, H


@dataclass(kw_only=True, eq=False, repr=False)
class MirrorTarget(GainTerm):
    """Bring every forget sample to what G gains on its mirror image: the term is abs(gain(f_i) − goal_i).

    For requests where others of the same kind stay: one patient of many, one scanner, corrupted scans. A network that
    never saw f knows its kind, so its error on f is that on any unseen scan like it. Mirrored left to right, f is such
    a scan: the same anatomy, contrast, noise and artefacts, but nothing that G has memorised. The mirror image of
    undersampled k-space is its rows or columns in reverse order, so nothing is resampled. The method costs one forward
    pass of G for each forget sample.

    Whether left to right is along W or along H is found on held-out scans at ``STARTED``: G gains on them nearly what
    it gains on their mirror images, if these are anatomy as G knows it. The dimension with the smaller mean square of
    the difference is taken. Anatomy is not quite symmetric, and G knows it one way round: even scans that it never saw
    gain more than their mirror images. That bias, the mean of the difference, is added to the goal. On scans that G was
    trained on the difference is larger by what of their memory the mirror images do not share. Where it is not, by two
    standard errors, a warning says that mirror images do not tell seen scans from unseen ones here, so that next to
    nothing will be forgotten: G has memorised little, anatomy is not symmetric, or G was trained with mirroring as
    augmentation, as ``reset_and_heal`` does.

    It does not suit a request for a whole kind, whose mirror images G reconstructs well too.

    Args:
        loader: Batches of scans that G was not trained on, for dimension and bias, in one pass; None: along W without
            bias.
        seen_loader: Batches of retain scans, on which G was trained, for the warning; None: none.

    Attributes:
        dim: The dimension of the images along which they are mirrored, -1 (W) or -2 (H).
        bias: In dB.
        scatter: The standard deviation of the difference over held-out samples, in dB.

    Source: this project.

    Raises:
        ValueError: A ``loader`` without scans, at ``STARTED``.
    """

    loader: Iterable | None = None
    seen_loader: Iterable | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.original = Original()
        self.dim, self.bias, self.scatter = -1, 0.0, 0.0

    def start(self, engine: Trainer) -> None:
        """Restart the forget stream, copy the network and find the dimension and the bias of mirror images."""
        super().start(engine)
        self.original.start(engine)
        if self.loader is None:
            return
        held_out = self._differences(engine, self.loader, DIMS)
        self.dim, unseen = min(zip(DIMS, held_out, strict=True), key=lambda found: found[1].mean_square)
        self.bias, self.scatter = unseen.mean, unseen.deviation
        logger.info(
            "mirror target: along %s held-out scans gain %.2f ± %.2f dB more than their mirror images",
            "HW"[self.dim],
            self.bias,
            self.scatter,
        )
        if self.seen_loader is None:
            return
        (seen,) = self._differences(engine, self.seen_loader, (self.dim,))
        told, error = seen.mean - unseen.mean, math.hypot(seen.error, unseen.error)
        logger.info("mirror target: scans that stay gain %.2f ± %.2f dB more than that (standard error)", told, error)
        if told < 2 * error:
            logger.warning(
                "mirror target: mirror images do not tell scans that the weights were trained on from held-out ones: "
                "next to nothing will be forgotten; the default of unlearn.yaml does not need them"
            )

    def goal(self, engine: Trainer, label: dict, zero_filled: torch.Tensor) -> torch.Tensor:
        image = self.output_of(engine, self.on_mirror_image(self.dim))
        return gain(image, zero_filled, label["target"]) + self.bias

    def on_mirror_image(self, dim: int) -> OnMirrorImage:
        """G on images mirrored along a dimension."""
        return OnMirrorImage(self.original.network, dim)

    @torch.no_grad()
    def _differences(self, engine: Trainer, loader: Iterable, dims: Sequence[int]) -> list[Differences]:
        """G's gain on each sample of one pass less that on its mirror image, along each dimension."""
        sums = torch.zeros(len(dims), 3, dtype=torch.float64, device=engine.state.device)
        for reconstruct, label in own(batches(engine, loader)):
            zero_filled = reconstruct(self.zero_filled)
            plain, *mirror = (
                gain(reconstruct(network), zero_filled, label["target"]).double()
                for network in (self.original.network, *map(self.on_mirror_image, dims))
            )
            less = plain - torch.stack(mirror)
            sums += torch.stack([less.sum(1), less.square().sum(1), less.new_full((len(dims),), len(plain))], dim=1)
        found = sum_over_processes(sums).tolist()
        if not found[0][2]:
            raise ValueError("mirror target: 'loader': expected held-out scans, found none")
        return [Differences(total / count, squares / count, int(count)) for total, squares, count in found]


@dataclass(frozen=True)
class Differences:
    """Mean and mean square of some differences in dB, and how many there are.

    >>> Differences(1.0, 5.0, 4).deviation, Differences(1.0, 5.0, 4).error
    (2.0, 1.0)
    """

    mean: float
    mean_square: float
    count: int

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return max(self.mean_square - self.mean**2, 0.0) ** 0.5

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.deviation / self.count**0.5


class OnMirrorImage(torch.nn.Module):
    """What a network makes of the mirror image, mirrored back: (B, 1, H, W).

    Args:
        network: The network.
        dim: The dimension of the image along which it is mirrored: -1 (W) or -2 (H).
    """

    def __init__(self, network: torch.nn.Module, dim: int = -1) -> None:
        super().__init__()
        self.network, self.dim = network, dim

    def forward(self, *inputs: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """``inputs``: k-space (B, C, H, W, 2) and mask (B, 1, 1, W, 1)."""
        return mirrored(self.network(*(mirrored(value, self.dim - 1) for value in inputs), **kwargs), self.dim)


@dataclass(kw_only=True, eq=False, repr=False)
class MirrorImage(MirrorTarget):
    """Handler that teaches S(f) an image between G(f) and G's image of f mirrored: the term is D(S(f), blend).

    For requests where others of the same kind stay: one patient or a few. The goal is that of :class:`MirrorTarget`:
    the gain of G on the mirror image of f, which it has not memorised, and the bias of mirror images that held-out
    scans show. Where that method asks for the number of dB, which any fault of the image may bring about, this one asks
    for an image: of those between G(f) and the mirrored G(mirrored f) the one with this gain. Its faults are those that
    G makes on scans that it never saw, so that others' scans have little to lose. It costs two forward passes of G for
    each forget sample; what the base class says of mirror images holds here, too. ``forget_weight`` is per unit of D.

    Source: this project.
    """

    forget_weight: NotNegative = 16.0

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        with torch.no_grad():
            networks = (self.zero_filled, self.original.network, self.on_mirror_image(self.dim))
            zero_filled, own, mirror = (self.output_of(engine, network) for network in networks)
            less = gain(own, zero_filled, label["target"]) - gain(mirror, zero_filled, label["target"]) - self.bias
            image = blend(own, mirror, label["target"], less)
        return loss_to_image(engine, prediction, label, image)


def blend(own: torch.Tensor, mirror: torch.Tensor, target: torch.Tensor, less: torch.Tensor) -> torch.Tensor:
    """The image a·own + (1 − a)·mirror, 0 <= a <= 1, whose PSNR is by so many dB below that of ``own``.

    The squared error is a parabola in a. Between one image above the wanted error and one below it there is one a;
    where nothing is to be lost a is 1, and where the mirror image has not lost enough a is 0.

    Args:
        own: An image, (B, 1, H, W).
        mirror: Another one, (B, 1, H, W).
        target: The reference image, (B, 1, h, w), h <= H, w <= W.
        less: By how many dB the PSNR is to be lower, (B,).

    Returns:
        (B, 1, H, W).

    >>> own, mirror, target = (torch.full((1, 1, 1, 1), value) for value in (1.1, 2.0, 1.0))
    >>> round(float(blend(own, mirror, target, torch.tensor([6.0206]))), 3)
    1.2
    """
    u, v = (crop_like(image.float(), target) - target for image in (own, mirror))
    uu, uv, vv = ((a * b).mean(dim=(1, 2, 3)) for a, b in ((u, u), (u, v), (v, v)))
    wanted = uu * 10 ** (less / 10)
    curvature = (uu - 2 * uv + vv).clamp(min=torch.finfo(torch.float32).tiny)
    lowest = (vv - uv) / curvature
    share = lowest - (lowest.square() - (vv - wanted) / curvature).clamp(min=0).sqrt()
    share = torch.where(less <= 0, 1.0, share.clamp(0, 1))[:, None, None, None].to(own.dtype)
    return share * own + (1 - share) * mirror
