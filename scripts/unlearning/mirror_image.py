"""Forget what was memorised: on each forget sample, an image as good as the original's of an unseen scan like it."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from scripts.kspace.fourier import crop_like
from scripts.run.engines import Trainer
from scripts.unlearning.frozen import loss_to_image
from scripts.unlearning.gain_term import gain
from scripts.unlearning.mirror_target import MirrorTarget


class MirrorImage(MirrorTarget):
    """Handler that teaches S(f) an image between G(f) and G's image of f mirrored: the term is D(S(f), blend).

    For requests where others of the same kind stay: one patient or a few. The goal is that of :class:`MirrorTarget`:
    the gain of G on the mirror image of f, which it has not memorised, and the bias of mirror images that held-out
    scans show. Where that method asks for the number of dB, which any fault of the image may bring about, this one asks
    for an image: of those between G(f) and the mirrored G(mirrored f) the one with this gain. Its faults are those that
    G makes on scans that it never saw, so that others' scans have little to lose. It costs two forward passes of G for
    each forget sample; what the base class says of mirror images holds here, too.

    Args:
        forget_loader, loader, seen_loader, forget_weight, retain_weight: See :class:`MirrorTarget`; the weight is per
            unit of D.

    Source: this project.
    """

    def __init__(
        self,
        forget_loader: Iterable,
        loader: Iterable | None = None,
        seen_loader: Iterable | None = None,
        forget_weight: float = 16.0,
        retain_weight: float = 1.0,
    ) -> None:
        super().__init__(forget_loader, loader, seen_loader, forget_weight, retain_weight)

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
