"""fastMRI-format HDF5 as raw data: with or without reference image, header and mask."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import partial

import h5py
import numpy as np

from scripts.data.header import header_fields, recon_size
from scripts.data.volumes import (
    find_target,
    open_volume,
    read_acquired,
    read_header,
    read_kspace_shape,
    refuse_swapped_axes,
)
from scripts.inference.geometry import Geometry, pixel_spacing, slice_thickness
from scripts.inference.raw_volume import RawVolume, ScanId


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
            refuse_swapped_axes(header, shape, path)
            matrix = shape[-2:]
            attributes = {key: _text(value) for key, value in file.attrs.items()}
            return cls(
                path=str(path),
                shape=shape,
                crop=_crop(file, header, matrix),
                geometry=Geometry(pixel_spacing(header, matrix), slice_thickness(header)),
                fields={**header_fields(header), **attributes},
                mask=_mask(file, matrix[1], path),
                acquired=read_acquired(header, matrix[1], path),
                scan_id=ScanId(partial(_measured, str(path))),
            )

    def _read(self, index: int) -> np.ndarray:
        with open_volume(self.path) as file:
            kspace = file["kspace"][index].astype(np.complex64, copy=False)
        return kspace if kspace.ndim == 3 else kspace[None]


def _measured(path: str) -> Iterator[np.ndarray]:
    """K-space, slice by slice."""
    with open_volume(path) as file:
        yield from (file["kspace"][index] for index in range(len(file["kspace"])))


def _crop(file: h5py.File, header: ET.Element | None, matrix: tuple[int, int]) -> tuple[int, int]:
    """Centre-crop size as in training: the header's, never more than the stored reference image or the matrix."""
    limits = [matrix]
    if header is not None and (stated := recon_size(header)):
        limits.append(stated)
    key = find_target(file)
    if key is not None and file[key].ndim == 3:
        limits.append(file[key].shape[-2:])
    return min(int(size[0]) for size in limits), min(int(size[1]) for size in limits)


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
