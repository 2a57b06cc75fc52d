"""fastMRI-format HDF5 volumes: written, inspected and read one slice at a time."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np

from scripts.data.header import acquired_columns, check_axes, encoding_of, header_fields, matrix_size, parse_header
from scripts.run.files import NO_LOCKS, write_bytes

MOST_SLICES, MOST_SAMPLES = 10_000, 16_384  # of what is still a scan
SUFFIXES = (".h5", ".hdf5", ".hdf", ".mrd", ".ismrmrd")
TARGET_KEYS = ("reconstruction_rss", "reconstruction_esc")
"""Multi-coil and single-coil reference image; single-coil files hold both, and their ``max`` is that of the second."""


@dataclass(frozen=True)
class Volume:
    """One scan: where it is, what it is called and what its slices look like.

    Attributes:
        path: HDF5 file.
        name: The datalist's ``kspace`` entry, unique within a datalist.
        fields: HDF5 attributes and ISMRMRD header fields, overlaid by the datalist entry's fields; without a
            ``patient_id`` the header's ``patientID`` is it.
        kspace_shape: (slices, coils, H, W); a single-coil file counts one coil.
        target_size: (h, w) of the reference image after the centre crop.
        target_key: The data set that holds the reference image; None: root-sum-of-squares of the k-space.
        crop_source: Where ``target_size`` was read: ``header``, ``target`` or, without either, ``matrix``.
        max_value: Maximum of the reference image over the volume, in the image's own units.
        forget: Whether a forget request selected this volume.
        acquired: First k-space column that was acquired and the one after the last, None: all of them; the others are
            zero-filled and no mask samples them.
    """

    path: str
    name: str
    kspace_shape: tuple[int, int, int, int]
    target_size: tuple[int, int]
    target_key: str | None
    crop_source: str
    max_value: float
    fields: Mapping[str, str] = field(default_factory=dict)
    forget: bool = False
    acquired: tuple[int, int] | None = None

    @property
    def num_slices(self) -> int:
        return self.kspace_shape[0]

    @property
    def patient_id(self) -> str:
        """The patient, or "" where neither datalist nor file names one."""
        return self.fields.get("patient_id", "")


def write_volume(
    path: str | Path,
    slices: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    num_slices: int,
    attributes: Mapping[str, str | float | int],
    header: str | None = None,
) -> None:
    """Write a fastMRI-format HDF5 volume, made in memory, under a temporary name that is then renamed.

    HDF5 is not let near the disk: where that is full, it fails to close the file and ends the process by a fault.

    Args:
        path: The file to make; its folder must exist.
        slices: Yields per slice the k-space (C, H, W) complex64 and the reference image (h, w) float32.
        num_slices: How many slices will come.
        attributes: HDF5 attributes; ``max`` and ``norm`` (of the reference image) are added.
        header: ISMRMRD XML header (see :func:`scripts.data.header.make_header`).

    Raises:
        ValueError: where the number or the shapes of the slices are not as stated.
    """
    with h5py.File(str(path), "w", driver="core", backing_store=False) as file:
        maximum, square = _write_slices(file, slices, num_slices, path)
        file.attrs.update({**attributes, "max": maximum, "norm": float(np.sqrt(square))})
        if header is not None:
            file["ismrmrd_header"] = header
        file.flush()
        content = file.id.get_file_image()
    write_bytes(path, content)


def _write_slices(
    file: h5py.File, slices: Iterable[tuple[np.ndarray, np.ndarray]], num_slices: int, path: str | Path
) -> tuple[float, float]:
    maximum, square, count = 0.0, 0.0, 0
    for count, (kspace, target) in enumerate(slices, start=1):
        if count == 1:
            file.create_dataset("kspace", (num_slices, *kspace.shape), np.complex64, chunks=(1, *kspace.shape))
            file.create_dataset(
                "reconstruction_rss", (num_slices, *target.shape), np.float32, chunks=(1, *target.shape)
            )
        if count > num_slices:
            break
        file["kspace"][count - 1] = kspace
        file["reconstruction_rss"][count - 1] = target
        maximum = max(maximum, float(target.max()))
        square += float(np.square(target, dtype=np.float64).sum())
    if count != num_slices:
        raise ValueError(f"{path}: expected {num_slices} slices to write, found {count}")
    return maximum, square


def files_below(folder: str | Path) -> list[Path]:
    """Raw data files of a folder and its subfolders, by their endings in capitals or not; linked ones too.

    A folder that several links lead to is read once. What macOS adds beside files (``._scan.h5``) is none.

    Raises:
        OSError: A folder that cannot be read.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders[:] = names[:] = []
        seen.add(real)
        folders.sort()
        found += [Path(place, name) for name in names if Path(name).suffix.lower() in SUFFIXES]
    return sorted(path for path in found if not path.name.startswith("._") and (path.is_file() or path.is_symlink()))


def _raise(error: OSError) -> None:
    raise error


def open_volume(path: str | Path) -> h5py.File:
    """Open an HDF5 file for reading; on a file system without locks without one.

    Raises:
        FileNotFoundError: no such file.
        PermissionError: a file that may not be read.
        ValueError: not HDF5, truncated, or being written by another program.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: {'a link that leads nowhere' if Path(path).is_symlink() else 'no such file'}")
    try:
        try:
            return h5py.File(path, "r")
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return h5py.File(path, "r", locking=False)
    except PermissionError as error:
        raise PermissionError(f"{path}: expected a file to read, found that it may not be read: {error}") from error
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
            raise ValueError(
                f"{path}: another program has the file open for writing; expected it to be closed (after a crash of "
                "that program, HDF5_USE_FILE_LOCKING=FALSE reads it all the same)"
            ) from error
        raise ValueError(f"{path}: not a readable HDF5 file (truncated, or another format): {error}") from error


def inspect_volume(path: str | Path, name: str | None = None, fields: Mapping[str, str] | None = None) -> Volume:
    """Read what a volume is without reading its k-space, and check its structure.

    Args:
        path: fastMRI-format HDF5 file: ``kspace`` (slices, coils, H, W), or (slices, H, W) single-coil.
        name: How tables and records call it; the file name when left out.
        fields: Datalist fields; they win over those of the file.

    Raises:
        FileNotFoundError, ValueError: naming the file, the field, what was found and what was expected.
    """
    with open_volume(path) as file:
        shape = read_kspace_shape(file, path)
        attributes = read_attributes(file, path)
        header = read_header(file, path)
        target_key = find_target(file)
        with naming(path, "ismrmrd_header"):
            acquired = acquired_columns(encoding_of(header), shape[-1])
            stated = matrix_size(encoding_of(header), "reconSpace")
        if "mask" in file and not _fully_sampled(file["kspace"], acquired):
            raise ValueError(
                f"{path}: 'mask': expected fully sampled data, found that 'kspace' is already undersampled (it carries "
                "'mask')"
            )
        size = _target_size(file, target_key, shape, stated, path)
        with naming(path, "kspace"):
            check_axes(header, shape, coils_too=target_key is None)
        known = {**header_fields(header), **attributes, **(fields or {})}
        if not known.get("patient_id") and known.get("patientID"):
            known["patient_id"] = known["patientID"]
        return Volume(
            path=str(path),
            name=name or Path(path).name,
            kspace_shape=shape,
            target_size=size,
            target_key=target_key,
            crop_source="header" if stated else "target" if target_key else "matrix",
            max_value=_max_value(file, target_key, attributes, size, path),
            acquired=acquired,
            fields=known,
        )


def _fully_sampled(kspace: h5py.Dataset, acquired: tuple[int, int]) -> bool:
    """Whether every column that was acquired has a value in the middle row of the middle slice, whatever masks say."""
    row = kspace[kspace.shape[0] // 2, ..., kspace.shape[-2] // 2, slice(*acquired)]
    return bool((row.reshape(-1, row.shape[-1]) != 0).any(axis=0).all())


def read_kspace_shape(file: h5py.File, path: str | Path) -> tuple[int, int, int, int]:
    """(slices, coils, H, W) of the file's ``kspace``; a single-coil file counts one coil.

    Raises:
        ValueError: no complex k-space of rank 3 or 4 with at least one element.
    """
    if "kspace" not in file:
        raise ValueError(f"{path}: 'kspace': expected a data set of that name, found {sorted(file) or 'none'}")
    kspace = file.get("kspace")
    if kspace is None:
        raise ValueError(f"{path}: 'kspace': expected a data set, found a link that leads nowhere")
    if not isinstance(kspace, h5py.Dataset) or kspace.ndim not in (3, 4):
        found = f"rank {kspace.ndim} {kspace.shape}" if isinstance(kspace, h5py.Dataset) else "a group"
        raise ValueError(f"{path}: 'kspace': expected (slices, coils, H, W) or (slices, H, W), found {found}")
    if kspace.dtype.kind != "c":
        raise ValueError(f"{path}: 'kspace': expected complex64, found {kspace.dtype}")
    if 0 in kspace.shape:
        raise ValueError(f"{path}: 'kspace': expected at least one element on each axis, found {kspace.shape}")
    if kspace.shape[0] > MOST_SLICES or max(kspace.shape[1:]) > MOST_SAMPLES:
        raise ValueError(
            f"{path}: 'kspace': expected at most {MOST_SLICES} slices and {MOST_SAMPLES} coils or samples on an axis, "
            f"found {kspace.shape}"
        )
    if kspace.id.get_storage_size() == 0 and not kspace.is_virtual and not kspace.external:
        raise ValueError(f"{path}: 'kspace': expected values, found a data set of {kspace.shape} that holds none")
    slices, *coils, height, width = map(int, kspace.shape)
    return slices, coils[0] if coils else 1, height, width


@contextlib.contextmanager
def naming(path: str | Path, field: str) -> Iterator[None]:
    """Put file and field in front of what a ValueError says."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {field!r}: {error}") from error


def read_header(file: h5py.File, path: str | Path) -> ElementTree.Element | None:
    """The ISMRMRD header of an open file, or None; ValueError, naming the file, where it is no XML."""
    if "ismrmrd_header" not in file:
        return None
    try:
        return parse_header(file["ismrmrd_header"][()])
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{path}: 'ismrmrd_header': expected a text, found something else: {error}") from error
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: 'ismrmrd_header': expected XML, found text that does not parse: {error}") from error


def read_attributes(file: h5py.File, path: str | Path) -> dict[str, str]:
    """The attributes of an open file as text; ValueError, naming file and attribute, where one cannot be read."""
    attributes = {}
    for key in file.attrs:
        try:
            attributes[key] = _text(file.attrs[key])
        except (OSError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {key!r}: expected a text or a number, found {error}") from error
    return attributes


def find_target(file: h5py.File) -> str | None:
    """The data set that holds the reference image of an open file: of single-coil k-space the single-coil one."""
    keys = TARGET_KEYS[::-1] if file["kspace"].ndim == 3 else TARGET_KEYS
    return next((key for key in keys if key in file), None)


def _target_size(
    file: h5py.File, key: str | None, shape: Sequence[int], stated: Sequence[int] | None, path: str | Path
) -> tuple[int, int]:
    """Centre-crop size: the header's, never more than the stored reference image or the matrix."""
    image = matrix = (shape[-2], shape[-1])
    if key is not None:
        target = file.get(key)
        if not isinstance(target, h5py.Dataset):
            found = "a link that leads nowhere" if target is None else "a group"
            raise ValueError(f"{path}: {key!r}: expected a data set, found {found}")
        if target.ndim != 3 or target.shape[0] != shape[0] or target.dtype.kind != "f":
            raise ValueError(f"{path}: {key!r}: expected float ({shape[0]}, h, w), found {target.dtype} {target.shape}")
        if target.shape[-2] > matrix[0] or target.shape[-1] > matrix[1]:
            raise ValueError(
                f"{path}: {key!r}: expected at most the matrix, {tuple(matrix)}, found {target.shape[-2:]}"
            )
        image = target.shape[-2:]
    height, width = (min(map(int, sides)) for sides in zip(matrix, stated or matrix, image, strict=True))
    return height, width


def _max_value(
    file: h5py.File, key: str | None, attributes: Mapping[str, str], size: tuple[int, int], path: str | Path
) -> float:
    if "max" in attributes:
        try:
            value = float(attributes["max"])
        except ValueError:
            raise ValueError(f"{path}: 'max': expected a number, found {attributes['max']!r}") from None
    else:
        value = max(float(_reference(file, key, i, size).max()) for i in range(file["kspace"].shape[0]))
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{path}: 'max': expected a finite volume maximum above 0, found {value}")
    return value


def _reference(file: h5py.File, key: str | None, index: int, size: tuple[int, int]) -> np.ndarray:
    return rss_image(file["kspace"][index], size) if key is None else centre(file[key][index], size)


def rss_image(kspace: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Root-sum-of-squares image (h, w) float32 of the centre of fully sampled k-space (C, H, W) or (H, W)."""
    shifted = np.fft.ifftshift(kspace, axes=(-2, -1))
    coils = np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(-2, -1))
    return centre(np.sqrt(np.square(np.abs(coils)).sum(axis=0) if coils.ndim == 3 else np.square(np.abs(coils))), size)


def centre(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The centre (h, w) float32 of an image."""
    top, left = (image.shape[0] - size[0]) // 2, (image.shape[1] - size[1]) // 2
    return np.ascontiguousarray(image[top : top + size[0], left : left + size[1]], dtype=np.float32)


def read_slice(volume: Volume, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Read one slice: k-space (C, H, W) complex64 and reference image (h, w) float32.

    Raises:
        ValueError: NaN or Inf in either, naming file and slice.
    """
    with open_volume(volume.path) as file:
        try:
            kspace = file["kspace"][index].astype(np.complex64, copy=False)
            target = _reference(file, volume.target_key, index, volume.target_size)
        except OSError as error:
            raise ValueError(
                f"{volume.path}: 'kspace', slice {index}: expected values, found that they cannot be read (damaged, or "
                f"packed by a filter that is not installed): {error}"
            ) from error
    for key, values in (("kspace", kspace), (volume.target_key or "reference image", target)):
        if not np.isfinite(values).all():
            raise ValueError(f"{volume.path}: {key!r}, slice {index}: expected finite values, found NaN or Inf")
    return (kspace if kspace.ndim == 3 else kspace[None]), target


def _text(value: object) -> str:
    text = value.decode() if isinstance(value, bytes) else str(value.item() if isinstance(value, np.generic) else value)
    text.encode()  # refuses what HDF5 handed on undecoded
    return text
