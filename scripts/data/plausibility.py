"""Whether a scan can be what it says it is: checks of storage and of physics that no file format makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from scripts.data.volumes import Volume, open_volume, read_slice

MAX_TOLERANCE = 1e-3  # of the stated maximum, for values that were rounded


def check_volume_values(volume: Volume) -> None:
    """Read every value of a volume once and refuse what cannot be a fully sampled scan with its reference image.

    Raises:
        ValueError: NaN or Inf, k-space without signal or with unmeasured columns, a reference image without signal or
            below zero, or a stated maximum that is not that of the reference image; naming file, field and slice.
    """
    checksources(volume)
    for index in range(volume.num_slices):
        kspace, target = read_slice(volume, index)
        check_kspace(volume, index, kspace)
        check_target(volume, index, target)
    check_maximum(volume)


def checksources(volume: Volume) -> None:
    """Refuse data sets whose values lie in other files that are missing; HDF5 reads such values as zeros.

    Raises:
        ValueError: naming the file, the data set and the file that is missing.
    """
    with open_volume(volume.path) as file:
        for key in ("kspace", volume.target_key):
            for source in sources(file[key]) if key else ():
                if not (Path(volume.path).parent / source).is_file():
                    raise ValueError(f"{volume.path}: '{key}': expected its values in {source}, found no such file")


def sources(dataset: h5py.Dataset) -> list[str]:
    """The other files that hold values of a data set, as it names them."""
    virtual = [source.file_name for source in dataset.virtualsources()] if dataset.is_virtual else []
    external = [name for name, _, _ in dataset.external or ()]
    return [name for name in [*virtual, *external] if name != "."]


def check_kspace(volume: Volume, index: int, kspace: np.ndarray) -> None:
    """Refuse k-space (C, H, W) without signal, or with columns that were not measured although they should have been.

    Raises:
        ValueError: naming file and slice.
    """
    measured = np.asarray(kspace.any(axis=(0, 1)))
    if not measured.any():
        raise ValueError(f"{volume.path}: 'kspace', slice {index}: expected a signal, found zeros alone")
    first, last = volume.acquired or (0, len(measured))
    missing = np.flatnonzero(~measured[first:last]) + first
    if len(missing):
        shown = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
        raise ValueError(
            f"{volume.path}: 'kspace', slice {index}: expected fully sampled data, found {len(missing)} of "
            f"{last - first} columns without a value: {shown}"
        )


def check_target(volume: Volume, index: int, target: np.ndarray) -> None:
    """Refuse a reference image (h, w) without signal or with values below zero: it is a magnitude.

    Raises:
        ValueError: naming file, data set and slice.
    """
    key = volume.target_key or "reference image"
    if not target.any():
        raise ValueError(f"{volume.path}: '{key}', slice {index}: expected a signal, found zeros alone")
    if target.min() < 0:
        raise ValueError(f"{volume.path}: '{key}', slice {index}: expected a magnitude, found {target.min():g}")


def check_maximum(volume: Volume) -> None:
    """Refuse a stated ``max`` that is not the maximum of the stored reference image, cropped or not.

    Raises:
        ValueError: naming file, field, what was found and what was expected.
    """
    if volume.target_key is None:
        return
    height, width = volume.target_size
    whole = cropped = 0.0
    with open_volume(volume.path) as file:
        for image in file[volume.target_key]:
            top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
            whole = max(whole, float(image.max()))
            cropped = max(cropped, float(image[top : top + height, left : left + width].max()))
    if not cropped * (1 - MAX_TOLERANCE) <= volume.max_value <= whole * (1 + MAX_TOLERANCE):
        raise ValueError(
            f"{volume.path}: 'max': expected that of '{volume.target_key}', {whole:g}, found {volume.max_value:g}"
        )


def refuse_similar_patients(patients: Mapping[str, str], where: str | Path) -> None:
    """Refuse patient identifiers that differ in case, space or number format alone: they may be one patient.

    Args:
        patients: identifier -> a volume of that patient.
        where: The datalist, for the message.

    Raises:
        ValueError: naming both spellings and their volumes.

    >>> refuse_similar_patients({"P17": "a.h5", "p17 ": "b.h5"}, "datalist.json")
    Traceback (most recent call last):
    ...
    ValueError: datalist.json: 'patient_id': found 'P17' (a.h5) and 'p17 ' (b.h5), expected one spelling of each patient
    """
    seen: dict[str, str] = {}
    for patient, volume in patients.items():
        key = _plain(patient)
        if key in seen:
            other = seen[key]
            raise ValueError(
                f"{where}: 'patient_id': found {other!r} ({patients[other]}) and {patient!r} ({volume}), expected one "
                "spelling of each patient"
            )
        seen[key] = patient


def _plain(patient: str) -> str:
    """An identifier without case, space and the decimals that a spreadsheet adds to a number."""
    text = "".join(patient.split()).casefold()
    number, point, decimals = text.partition(".")
    return number if point and number.isdigit() and not decimals.strip("0") else text


def refuse_copies(paths: Sequence[Path], names: Sequence[str], where: str | Path) -> None:
    """Refuse files that are the same scan under two names: links to one file, and copies byte by byte.

    Only files of equal size are compared, first by three pieces of each, then as a whole.

    Args:
        paths: The files.
        names: What the datalist calls them, and in which section.
        where: The datalist, for the message.

    Raises:
        ValueError: naming both.
    """
    inodes: dict[tuple[int, int], str] = {}
    alike: dict[tuple[int, bytes], list[tuple[Path, str]]] = {}
    sizes: dict[int, list[tuple[Path, str]]] = {}
    for path, name in zip(paths, names, strict=True):
        status = path.stat()
        inode = (status.st_dev, status.st_ino)
        if inode in inodes:
            raise ValueError(f"{where}: 'kspace': {name} is listed twice: it is the same file as {inodes[inode]}")
        inodes[inode] = name
        sizes.setdefault(status.st_size, []).append((path, name))
    for size, files in sizes.items():
        for path, name in files if len(files) > 1 else ():
            alike.setdefault((size, _pieces(path, size)), []).append((path, name))
    for files in alike.values():
        for index, (path, name) in enumerate(files):
            for other, other_name in files[:index]:
                if _same_bytes(path, other):
                    raise ValueError(f"{where}: 'kspace': {other_name} and {name} hold the same bytes, one scan twice")


def _pieces(path: Path, size: int, length: int = 1 << 14) -> bytes:
    with open(path, "rb") as file:
        pieces = []
        for place in (0, size // 2, max(0, size - length)):
            file.seek(place)
            pieces.append(file.read(length))
    return b"".join(pieces)


def _same_bytes(one: Path, other: Path) -> bool:
    with open(one, "rb") as first, open(other, "rb") as second:
        while block := first.read(1 << 20):
            if block != second.read(1 << 20):
                return False
    return True
