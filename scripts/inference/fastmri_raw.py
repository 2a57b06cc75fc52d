"""fastMRI-format HDF5 as raw data: with or without reference image, header and mask."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import h5py
import numpy as np

from scripts.data.header import acquired_columns, check_axes, encoding_of, header_fields, matrix_size
from scripts.data.volumes import find_target, naming, open_volume, read_header, read_kspace_shape
from scripts.inference.geometry import Geometry, pixel_spacing, slice_thickness
from scripts.inference.ismrmrd_raw import find_groups
from scripts.inference.raw_volume import RawVolume, ScanId
from scripts.inference.readouts import incomplete


class FastMRIRaw(RawVolume):
    """fastMRI's ``kspace`` (slices, coils, H, W), or (slices, H, W) single-coil; ``mask`` (W,) where undersampled.

    The format states neither position nor orientation, so the geometry has spacing and thickness at most.
    """

    @classmethod
    def open(cls, path: str) -> FastMRIRaw:
        """Read what the file is, without its k-space.

        Raises:
            FileNotFoundError, ValueError: naming file, field, what was found and what was expected.
        """
        with open_volume(path) as file:
            shape = read_kspace_shape(file, path)
            header = read_header(file, path)
            matrix, encoding = shape[-2:], encoding_of(header)
            with naming(path, "kspace"):
                check_axes(header, shape, coils_too=False)
            with naming(path, "ismrmrd_header"):
                acquired, stated = acquired_columns(encoding, matrix[1]), matrix_size(encoding, "reconSpace")
            attributes = {key: _text(value) for key, value in file.attrs.items()}
            mask = _mask(file, matrix[1], path)
            slice_notes, refused = _judge(file["kspace"], mask, acquired)
            groups = find_groups(file)
            return cls(
                path=str(path),
                shape=shape,
                crop=_crop(file, stated, matrix),
                geometry=Geometry(pixel_spacing(encoding, matrix), slice_thickness(encoding)),
                fields={**header_fields(header), **attributes},
                mask=mask,
                acquired=acquired,
                notes=(f"left out: readouts in {', '.join(groups)}",) if groups else (),
                scan_id=ScanId(partial(_measured, str(path))),
                slice_notes=slice_notes,
                refused=refused,
            )

    def _read(self, index: int) -> np.ndarray:
        with open_volume(self.path) as file:
            kspace = file["kspace"][index].astype(np.complex64, copy=False)
        return kspace if kspace.ndim == 3 else kspace[None]


def _measured(path: str) -> Iterator[np.ndarray]:
    """K-space, slice by slice."""
    with open_volume(path) as file:
        yield from (file["kspace"][index] for index in range(len(file["kspace"])))


def _judge(kspace: h5py.Dataset, mask: np.ndarray | None, acquired: tuple[int, int]) -> tuple[dict[int, str], str]:
    """Notes on slices of which fewer columns were measured than the mask states or the fullest one has; the refusal.

    Read from the row at the centre of k-space, which is measured wherever its column is.
    """
    rows = kspace[..., kspace.shape[-2] // 2, :].reshape(len(kspace), -1, kspace.shape[-1])
    measured, stated = (rows != 0).any(axis=1), np.zeros(kspace.shape[-1], bool)
    if mask is not None:
        stated[slice(*acquired)] = mask[slice(*acquired)]
        measured &= mask
    most = max(int(measured.sum(axis=1).max()), int(stated.sum()))
    judged = [incomplete(np.flatnonzero(columns), most, len(stated)) for columns in measured]
    refused = [f"slice {index}: {text}" for index, (text, too_few) in enumerate(judged) if too_few]
    return {index: text for index, (text, _) in enumerate(judged) if text}, "; ".join(refused)


def _crop(file: h5py.File, stated: tuple[int, int] | None, matrix: tuple[int, int]) -> tuple[int, int]:
    """Centre-crop size as in training: the header's, never more than the stored reference image or the matrix."""
    key = find_target(file)
    image = file[key].shape[-2:] if key is not None and file[key].ndim == 3 else matrix
    height, width = (min(map(int, sides)) for sides in zip(matrix, stated or matrix, image, strict=True))
    return height, width


def _mask(file: h5py.File, width: int, path: str) -> np.ndarray | None:
    if "mask" not in file:
        return None
    mask = np.asarray(file["mask"][()]).reshape(-1) != 0
    if mask.shape != (width,) or not mask.any():
        raise ValueError(f"{path}: 'mask': expected {width} columns, some of them measured; found {mask.shape}")
    return mask


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value.item() if isinstance(value, np.generic) else value)
