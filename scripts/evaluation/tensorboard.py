"""Sample images for MONAI's TensorBoardImageHandler, which scales each to its own range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor


def batch_images(batch: Mapping) -> tuple[Sequence[None], Tensor]:
    """No input image (k-space is none), and the reference images (B, 1, h, w)."""
    return [None] * len(batch["target"]), batch["target"]


def output_images(output: Mapping) -> Tensor:
    """The reconstructions (B, 1, H, W)."""
    return output["pred"].detach()
