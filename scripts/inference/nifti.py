"""Image volumes as NIfTI."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.inference.geometry import Geometry
from scripts.run.files import atomic_write


def write_nifti(path: str | Path, images: np.ndarray, geometry: Geometry, description: str = "") -> None:
    """Write a volume, whole or not at all, slice by slice.

    The voxel axes are column, row, slice. Without an orientation both form codes are 0 (unknown) and the header
    has the spacing alone; without a spacing the unit is "unknown".

    Args:
        path: The ``.nii.gz`` to make.
        images: (slices, h, w) float32, in memory or mapped from a file.
        geometry: The geometry of these images.
        description: A text of at most 79 characters.
    """
    affine = geometry.affine()
    image = nib.Nifti1Image(images.transpose(2, 1, 0), affine)
    header = image.header
    header["descrip"] = description.encode("ascii", "replace")[:79]
    header.set_data_dtype(np.float32)
    if geometry.spacing is not None:
        rows, columns = geometry.spacing
        step = geometry.slice_step
        between = np.linalg.norm(step) if step is not None else geometry.slice_thickness or 1.0
        header.set_zooms((columns, rows, float(between)))
        header.set_xyzt_units("mm")
    if affine is not None:
        image.set_sform(affine, code="scanner")
        image.set_qform(affine, code="scanner")
    with (
        atomic_write(path) as temporary,
        open(temporary, "wb") as file,
        # no name and no time, so that equal images give equal files
        gzip.GzipFile("", "wb", compresslevel=4, fileobj=file, mtime=0) as stream,
    ):
        image.to_stream(stream)
