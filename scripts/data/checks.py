"""What can be known to go wrong is found before work starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import ignite.distributed as idist
from tqdm import tqdm

from scripts.data.masks import ColumnMask
from scripts.data.volumes import Volume, read_slice
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
        check_values: also read all values once and refuse NaN or Inf; several processes share the slices. Each slice
            is checked again when it is used.

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
        slices = [(volume, index) for volume in volumes for index in range(volume.num_slices)]
        share = slices[idist.get_rank() :: idist.get_world_size()]
        options = {"unit": "slice", "mininterval": 1.0, "dynamic_ncols": True, "disable": idist.get_rank() > 0}
        for volume, index in tqdm(share, desc="checking data", **options):
            read_slice(volume, index)
