"""Whether a scan can be what it says it is: checks of storage and of physics that no file format makes."""

from __future__ import annotations

import filecmp
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from scripts.data.volumes import Volume, centre, open_volume, read_slice, rss_image
from scripts.run.text import skeleton

MAX_TOLERANCE = 1e-3  # of the stated maximum, for values that were rounded
LEAST_CORRELATION = 0.3  # of a reference image with that of the k-space; corrupted scans stay above it


def check_volume_values(volume: Volume) -> None:
    """Read every value of a volume once and refuse what cannot be a fully sampled scan with its reference image.

    Raises:
        ValueError: naming file, field and slice: values in a file that is missing, NaN or Inf, k-space without signal,
            with unmeasured columns or with its low frequencies elsewhere than in the centre, a reference image without
            signal, below zero or of something else, or a stated maximum that is not that of the reference image.
    """
    with open_volume(volume.path) as file:  # HDF5 reads values in files that are missing as zeros
        for key in filter(None, ("kspace", volume.target_key)):
            for source in sources(file[key]):
                if not (Path(volume.path).parent / source).is_file():
                    raise ValueError(f"{volume.path}: {key!r}: expected its values in {source}, found no such file")
    for index in range(volume.num_slices):
        kspace, target = read_slice(volume, index)
        check_kspace(volume, index, kspace)
        check_target(volume, index, target)
        if index == volume.num_slices // 2:
            check_centre(volume, index, kspace)
            check_image(volume, index, kspace, target)
    check_maximum(volume)


def sources(dataset: h5py.Dataset) -> list[str]:
    """The other files that hold values of a data set, as it names them."""
    virtual = [source.file_name for source in dataset.virtual_sources()] if dataset.is_virtual else []
    external = [name for name, _, _ in dataset.external or ()]
    return [name for name in [*virtual, *external] if name != "."]


def check_kspace(volume: Volume, index: int, kspace: np.ndarray) -> None:
    """Refuse k-space (C, H, W) without signal, or with columns that were not measured but should have been."""
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
    """Refuse a reference image (h, w) without signal or with values below zero: it is a magnitude."""
    key = volume.target_key or "reference image"
    if not target.any():
        raise ValueError(f"{volume.path}: {key!r}, slice {index}: expected a signal, found zeros alone")
    if target.min() < 0:
        raise ValueError(f"{volume.path}: {key!r}, slice {index}: expected a magnitude, found {target.min():g}")


def check_centre(volume: Volume, index: int, kspace: np.ndarray) -> None:
    """Refuse k-space (C, H, W) whose low frequencies are not in the centre, where masks sample them.

    Magnitudes are compared, not energies: a few spikes of a corrupted scan weigh little.
    """
    magnitude = np.abs(kspace).sum(axis=0)
    height, width = magnitude.shape
    centre = magnitude[height // 4 : height - height // 4, width // 4 : width - width // 4]
    outside = (magnitude.sum() - centre.sum()) / max(1, magnitude.size - centre.size)
    if centre.mean() < outside:
        raise ValueError(
            f"{volume.path}: 'kspace', slice {index}: expected the low frequencies in the centre, found a mean "
            f"magnitude of {centre.mean():.3g} there and of {outside:.3g} outside: was it shifted to the corners?"
        )


def check_image(volume: Volume, index: int, kspace: np.ndarray, target: np.ndarray) -> None:
    """Refuse a reference image (h, w) that shows something else, or on another scale, than its k-space (C, H, W).

    The Fourier transform is orthonormal, so that the image of the k-space and the reference image are on one scale.
    """
    if volume.target_key is None:
        return
    image = rss_image(kspace, volume.target_size)
    ratio = float(np.linalg.norm(target) / max(np.linalg.norm(image), np.finfo(np.float32).tiny))
    if not 0.1 <= ratio <= 10:
        raise ValueError(
            f"{volume.path}: {volume.target_key!r}, slice {index}: expected the scale of the k-space (orthonormal "
            f"Fourier transform), found {ratio:.3g} times the root sum of squares of its coil images"
        )
    correlation = float(np.corrcoef(image.ravel(), target.ravel())[0, 1]) if image.std() and target.std() else 1.0
    if correlation < LEAST_CORRELATION:
        raise ValueError(
            f"{volume.path}: {volume.target_key!r}, slice {index}: expected the image of 'kspace', found one that "
            f"correlates by {correlation:.2f} with it (least {LEAST_CORRELATION})"
        )


def check_maximum(volume: Volume) -> None:
    """Refuse a stated ``max`` that is not the maximum of the stored reference image, cropped or not."""
    if volume.target_key is None:
        return
    whole = cropped = 0.0
    with open_volume(volume.path) as file:
        for image in file[volume.target_key]:
            whole = max(whole, float(image.max()))
            cropped = max(cropped, float(centre(image, volume.target_size).max()))
    if not cropped * (1 - MAX_TOLERANCE) <= volume.max_value <= whole * (1 + MAX_TOLERANCE):
        raise ValueError(
            f"{volume.path}: 'max': expected that of {volume.target_key!r}, {whole:g}, found {volume.max_value:g}"
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
    """An identifier as an eye sees it, without case, space and the decimals that a spreadsheet adds to a number."""
    text = skeleton(patient)
    number, point, decimals = text.partition(".")
    return number if point and number.isdigit() and not decimals.strip("0") else text


def refuse_repacked(volumes: Sequence[Volume], where: str | Path) -> None:
    """Refuse one scan in two files that differ in their bytes, as after compression.

    Only the middle slices of volumes of equal shape and equal maximum are compared, first by one coil of each.

    Raises:
        ValueError: naming both.
    """
    alike: dict[tuple[tuple[int, ...], float], list[Volume]] = {}
    for volume in volumes:
        alike.setdefault((volume.kspace_shape, volume.max_value), []).append(volume)
    for group in alike.values():
        seen: dict[bytes, list[Volume]] = {}
        for volume in group if len(group) > 1 else ():
            others = seen.setdefault(hashlib.sha256(_middle(volume, one_coil=True).tobytes()).digest(), [])
            for other in others:
                if np.array_equal(_middle(volume), _middle(other)):
                    raise ValueError(
                        f"{where}: 'kspace': {other.name} and {volume.name} hold the same k-space, one scan twice"
                    )
            others.append(volume)


def _middle(volume: Volume, one_coil: bool = False) -> np.ndarray:
    """k-space of the middle slice: (C, H, W), or (H, W) of single-coil data or of the first coil."""
    middle = volume.num_slices // 2
    with open_volume(volume.path) as file:
        kspace = file["kspace"]
        return np.asarray(kspace[middle, 0] if one_coil and kspace.ndim == 4 else kspace[middle])


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
                if filecmp.cmp(path, other, shallow=False):
                    raise ValueError(f"{where}: 'kspace': {other_name} and {name} hold the same bytes, one scan twice")


def _pieces(path: Path, size: int, length: int = 1 << 14) -> bytes:
    with open(path, "rb") as file:
        pieces = []
        for place in (0, size // 2, max(0, size - length)):
            file.seek(place)
            pieces.append(file.read(length))
    return b"".join(pieces)
