"""Which files to reconstruct, and what each of them is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scripts.data.volumes import SUFFIXES, files_below, open_volume
from scripts.inference.fastmri_raw import FastMRIRaw
from scripts.inference.ismrmrd_raw import IsmrmrdRaw, find_groups
from scripts.inference.raw_volume import RawVolume


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
    if not files:
        raise FileNotFoundError("'dataset_dir': expected at least one file, found an empty list")
    return _named(files, None)


def _named(files: Sequence[Path], root: Path | None) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in files:
        name = (path.relative_to(root) if root else Path(path.name)).with_suffix("").as_posix()
        if name in named:
            raise ValueError(f"{named[name]} and {path}: 'dataset_dir': both would be written as {name}")
        named[name] = path
    return named
