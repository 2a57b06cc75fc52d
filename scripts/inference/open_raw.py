"""The slices of one series of raw data at a time, as a PyTorch data set that a MONAI evaluator reads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from scripts.data.slices import Undersample, columns_between
from scripts.data.volumes import SUFFIXES, files_below, open_volume
from scripts.inference.fastmri_raw import FastMRIRaw
from scripts.inference.ismrmrd_raw import IsmrmrdRaw, find_groups
from scripts.inference.raw_volume import RawVolume
from scripts.kspace.masks import ColumnMask

logger = logging.getLogger(__name__)


class KspaceSlices(Dataset):
    """Items ``masked_kspace`` (C, H, W, 2) float32, ``mask`` (1, 1, W, 1) bool, ``slice`` () int64.

    It is empty until it was turned to a series. The measured columns are those the file states, or else those that are
    not all zero.

    Args:
        mask: Undersamples fully sampled files retrospectively, with the pattern that the evaluation draws for
            this file; None: files are taken as they are.
        seed: The seed of that pattern.
        remove_oversampling: As for :func:`open_raw`.
        network: The network, whose ``check_image_size(height, width)``, where it has one, says whether a file is large
            enough.
    """

    def __init__(
        self,
        mask: ColumnMask | None = None,
        seed: int = 0,
        network: torch.nn.Module | None = None,
        remove_oversampling: bool = True,
    ) -> None:
        self.undersample = None if mask is None else Undersample(mask, seed)
        self.check_image_size = getattr(network, "check_image_size", None)
        self.remove_oversampling = remove_oversampling
        self.raw: RawVolume | None = None

    def series(self, path: str | Path) -> Sequence[RawVolume]:
        """The series of a file.

        Raises:
            FileNotFoundError, ValueError: the file cannot be read; named.
        """
        self.raw = None
        return open_raw(path, self.remove_oversampling)

    def turn_to(self, raw: RawVolume) -> None:
        """Serve the slices of a series; what there is to say about it is logged.

        Raises:
            ValueError: it cannot be reconstructed, or is too small for network or mask; its file is named.
        """
        self.raw = None
        try:
            if raw.refused:
                raise ValueError(raw.refused)
            if self.check_image_size is not None:
                self.check_image_size(*raw.shape[-2:])
            if self.undersample is not None:
                self.undersample.mask.check_width(raw.shape[-1])
        except ValueError as error:
            raise ValueError(f"{raw.path}: {error}") from error
        if raw.notes:
            logger.info("%s%s: %s", raw.path, raw.suffix, "; ".join(raw.notes))
        for index, note in raw.slice_notes.items():
            logger.warning("%s%s: slice %d: %s", raw.path, raw.suffix, index, note)
        self.raw = raw

    def open(self, path: str | Path) -> Sequence[RawVolume]:
        """The series of a file, see :meth:`series`; the first is turned to, see :meth:`turn_to`."""
        series = self.series(path)
        self.turn_to(series[0])
        return series

    def __len__(self) -> int:
        return 0 if self.raw is None else self.raw.num_slices

    def __getitem__(self, index: int) -> dict:
        raw = self.raw
        if raw is None:
            raise IndexError("slices: expected a series to be turned to, found none")
        kspace = raw.read(index)
        if self.undersample is None:
            return {**network_input(kspace, raw.sampled_columns(kspace)), "slice": torch.tensor(index)}
        if raw.undersampled(kspace):
            raise ValueError(
                f"{raw.path}: 'undersample': expected fully sampled k-space to mask, found columns missing in "
                f"slice {index}; run without retrospective undersampling"
            )
        acquired = columns_between(raw.acquired, kspace.shape[-1])
        item = {"kspace": torch.from_numpy(kspace), "acquired": acquired, "file": raw.path}
        return self.undersample({**item, "slice": torch.tensor(index)})


def network_input(kspace: np.ndarray, columns: np.ndarray) -> dict[str, torch.Tensor]:
    """What a network takes of one slice.

    Args:
        kspace: (C, H, W) complex64.
        columns: (W,) bool, the measured ones.

    Returns:
        ``masked_kspace`` (C, H, W, 2) float32 and ``mask`` (1, 1, W, 1) bool.
    """
    mask = torch.from_numpy(columns)
    return {"masked_kspace": torch.view_as_real(torch.from_numpy(kspace) * mask), "mask": mask[None, None, :, None]}


def open_raw(path: str | Path, remove_oversampling: bool = True) -> Sequence[RawVolume]:
    """Open fastMRI HDF5 (data set ``kspace``) or ISMRMRD raw data (a group with ``xml`` and ``data``).

    Args:
        path: The file.
        remove_oversampling: Whether to reduce the readout of ISMRMRD data to the reconstructed field of view. fastMRI's
            k-space is taken as it is stored.

    Returns:
        Its series: of ISMRMRD one for each contrast, phase, repetition and set, else one.

    Raises:
        FileNotFoundError, ValueError: naming file, field, what was found and what was expected.
    """
    with open_volume(path) as file:
        names = sorted(file)
        fastmri, ismrmrd = "kspace" in file, bool(find_groups(file))
    if fastmri:
        return [FastMRIRaw.open(str(path))]
    if ismrmrd:
        return IsmrmrdRaw.open(str(path), remove_oversampling)
    raise ValueError(
        f"{path}: expected fastMRI's data set 'kspace' or an ISMRMRD group with 'xml' and 'data', "
        f"found {', '.join(names) or 'nothing'}"
    )


def find_inputs(source: str | Path | Sequence[str | Path]) -> dict[str, Path]:
    """The files to reconstruct by the name of their outputs: the relative path without suffix.

    Args:
        source: a folder, searched as by :func:`scripts.data.volumes.files_below`; a file; or a list of files.

    Raises:
        FileNotFoundError: no such folder, or no raw data in it.
        ValueError: two files whose outputs would have the same name.
    """
    if isinstance(source, (str, Path)):
        root = Path(source)
        if root.is_dir():
            files = files_below(root)
            if not files:
                raise FileNotFoundError(f"{root}: 'dataset_dir': expected files {', '.join(SUFFIXES)}, found none")
            return _named(files, root)
        if not root.exists():
            raise FileNotFoundError(
                f"{root}: 'dataset_dir': expected a folder, a file or a list of files, found nothing"
            )
        source = [root]
    files = [Path(path) for path in source]
    return _named(files, None)


def _named(files: Sequence[Path], root: Path | None) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in files:
        name = (path.relative_to(root) if root else Path(path.name)).with_suffix("").as_posix()
        if name in named:
            raise ValueError(f"{named[name]} and {path}: 'dataset_dir': both would be written as {name}")
        named[name] = path
    return named
