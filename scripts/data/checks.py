"""What can be known to go wrong is found before work starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import ignite.distributed as idist

from scripts.data.masks import ColumnMask
from scripts.data.plausibility import check_volume_values
from scripts.data.volumes import Volume
from scripts.progress_bar import progress_bar
from scripts.ssim import SSIM_WINDOW


class ImageSizeCheck(Protocol):
    """A network that knows which images are too small for its pooling."""

    def check_image_size(self, height: int, width: int) -> None:
        """Raise ValueError where an image of height x width pixels is too small."""


def check_volumes(
    volumes: Iterable[Volume], network: ImageSizeCheck, mask: ColumnMask, check_values: bool = True
) -> None:
    """Check that every volume can go through mask, network and metrics.

    Args:
        volumes: what the run will read.
        network: its ``check_image_size(height, width)`` says what is too small for its pooling.
        mask: its settings have to be possible for each width.
        check_values: also read all values once, see :func:`scripts.data.plausibility.check_volume_values`; several
            processes share the volumes. Each slice is checked again for NaN and Inf when it is used.

    Raises:
        ValueError: naming the file, the field, what was found and what was expected.
    """
    volumes = list({volume.path: volume for volume in volumes}.values())
    for volume in volumes:
        height, width = volume.kspace_shape[-2:]
        try:
            mask.check_width(width)
            network.check_image_size(height, width)
        except ValueError as error:
            raise ValueError(f"{volume.path}: {error}") from error
        if min(volume.target_size) < SSIM_WINDOW:
            raise ValueError(
                f"{volume.path}: reference image: expected at least {SSIM_WINDOW} x {SSIM_WINDOW} for SSIM, "
                f"found {volume.target_size[0]} x {volume.target_size[1]}"
            )
    if check_values:
        share = volumes[idist.get_rank() :: idist.get_world_size()]
        options = {"unit": "volume", "mininterval": 1.0, "dynamic_ncols": True, "disable": idist.get_rank() > 0}
        for volume in progress_bar(share, desc="checking data", **options):
            check_volume_values(volume)


def check_batches(batch_size: int, *parts: Sequence[Volume]) -> None:
    """Check that the slices of one batch have equal sizes and coil counts.

    Args:
        batch_size: slices of a batch; 1 takes any.
        parts: volumes whose slices are batched together, each part for itself.

    Raises:
        ValueError: naming the setting and two volumes that differ.
    """
    for first, volume in ((part[0], volume) for part in parts if batch_size > 1 for volume in part):
        sizes = [(v.kspace_shape[1:], v.target_size) for v in (first, volume)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"'batch_size': expected 1 for volumes of different sizes, found {batch_size}: {first.path} has "
                f"(coils, H, W) {sizes[0][0]} and images {sizes[0][1]}, {volume.path} {sizes[1][0]} and {sizes[1][1]}"
            )
