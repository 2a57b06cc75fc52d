"""What can be known to go wrong is found before work starts."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import ignite.distributed as idist
import torch
from torch.utils.data import DataLoader, Dataset

from scripts.data.digests import keep, kept, known_sha256, status
from scripts.data.plausibility import check_volume_values, sources
from scripts.data.volumes import Volume, open_volume
from scripts.kspace.masks import ColumnMask
from scripts.kspace.ssim import SSIM_WINDOW
from scripts.run.console import progress_bar
from scripts.run.files import file_sha256, json_sha256

RULES = ("header.py", "plausibility.py", "volumes.py")  # what decides whether a file passes
WORTH_READERS, MOST_READERS = 1 << 30, 8  # bytes to read, processes
logger = logging.getLogger(__name__)


def check_volumes(
    volumes: Iterable[Volume], network: torch.nn.Module, mask: ColumnMask, check_values: bool = True
) -> None:
    """Check that every volume can go through mask, network and metrics.

    Args:
        volumes: what the run will read.
        network: its ``check_image_size(height, width)``, if it has one, says what is too small for its pooling.
        mask: its settings have to be possible for each width.
        check_values: also read all values once, see :func:`check_once`; several processes share
            the volumes. Each slice is checked again for NaN and Inf when it is used.

    Raises:
        ValueError: naming the file, the field, what was found and what was expected.
    """
    volumes = list({volume.path: volume for volume in volumes}.values())
    check_image_size = getattr(network, "check_image_size", None)
    for volume in volumes:
        height, width = volume.kspace_shape[-2:]
        try:
            mask.check_width(width)
            if check_image_size is not None:
                check_image_size(height, width)
        except ValueError as error:
            raise ValueError(f"{volume.path}: {error}") from error
        if min(volume.target_size) < SSIM_WINDOW:
            raise ValueError(
                f"{volume.path}: reference image: expected at least {SSIM_WINDOW} x {SSIM_WINDOW} for SSIM, "
                f"found {volume.target_size[0]} x {volume.target_size[1]}"
            )
    if check_values:
        _check_values(volumes[idist.get_rank() :: idist.get_world_size()])


def _check_values(volumes: Sequence[Volume]) -> None:
    """Check all values of the volumes that were not checked before; much data by processes side by side."""
    new = [volume for volume in volumes if not has_passed(volume)]
    logger.debug("values of %d volumes: %d were checked before", len(volumes), len(volumes) - len(new))
    outcomes = DataLoader(
        _Checks(new),
        batch_size=None,
        num_workers=_readers(new),
        generator=torch.Generator(),  # the loader draws a seed, and the run's own random numbers stay as they are
    )
    options = {"unit": "volume", "mininterval": 1.0, "dynamic_ncols": True, "disable": not new or idist.get_rank() > 0}
    for error in progress_bar(outcomes, desc="checking data", total=len(new), **options):
        if error:
            raise error


class _Checks(Dataset):
    """What is wrong with each of some volumes: an error, or "" where nothing is."""

    def __init__(self, volumes: Sequence[Volume]) -> None:
        self.volumes = volumes

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, index: int) -> Exception | str:
        try:
            check_once(self.volumes[index])
        except (ValueError, OSError) as error:
            return error
        return ""


def _readers(volumes: Sequence[Volume]) -> int:
    """How many processes read: HDF5 lets one thread of a process read and unpack at a time; 0: this process alone."""
    from joblib import cpu_count  # no part of the inference path

    if sum(Path(volume.path).stat().st_size for volume in volumes) < WORTH_READERS:
        return 0
    cores = cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return min(cores, MOST_READERS, len(volumes)) if cores > 1 else 0


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


def check_once(volume: Volume) -> None:
    """Check a volume's values, see :func:`check_volume_values`, unless this file has passed and is unchanged.

    See :func:`scripts.data.digests.known_sha256` for what that trusts. Other rules, as after an update, and values that
    lie in other files are checked each time.

    Raises:
        ValueError: See :func:`check_volume_values`.
    """
    if has_passed(volume):
        return
    before = status(volume.path)
    check_volume_values(volume)
    with open_volume(volume.path) as file:
        elsewhere = [source for key in ("kspace", volume.target_key) if key for source in sources(file[key])]
    if not elsewhere:
        keep(volume.path, before, known_sha256(volume.path), passed=_rules())


def has_passed(volume: Volume) -> bool:
    """Whether this file has passed the check and is unchanged since."""
    entry = kept(volume.path)
    return entry is not None and entry.get("passed") == _rules()


@cache
def _rules() -> str:
    return json_sha256([file_sha256(Path(__file__).with_name(name)) for name in RULES])
