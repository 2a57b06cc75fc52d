"""Collects the images of a volume as they are reconstructed and writes them when it is complete."""

from __future__ import annotations

import csv
import gzip
import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
from ignite.engine import Events
from monai.utils import CommonKeys
from torch import Tensor

from scripts.inference.geometry import Geometry
from scripts.inference.model_identity import ModelIdentity
from scripts.inference.raw_volume import RawVolume
from scripts.kspace.fourier import center_crop
from scripts.run.engines import Workflow
from scripts.run.files import atomic_write, check_disk_space, full_disk_told, write_text

FIELDS = (
    "patientName", "patientID", "patientBirthdate", "patientGender", "studyInstanceUID", "studyID", "studyDate",
    "studyTime", "accessionNumber",
)  # fmt: skip
logger = logging.getLogger(__name__)


class VolumeWriter:
    """Handler that takes the prediction of every iteration of an evaluator run with ``decollate=False``.

    The images of one volume wait in a temporary file beside the outputs, so memory holds one slice.

    Args:
        output_dir: The folder that gets ``<name>.nii.gz`` and, for DICOM, the folder ``<name>_dicom``. What there is to
            say about a volume or its slices, such as lines that were not measured, stands in ``<name>.json`` beside
            the first and in the second.
        formats: The formats to write, out of "nifti" and "dicom".
        model: Named in the outputs.
        overwrite: Whether outputs that are there already may be replaced.
        worklist: CSV file with patient and study of each scan; see :class:`Worklist`.

    Raises:
        FileNotFoundError, ValueError: no worklist.
        ImportError: DICOM without the package pydicom.
    """

    def __init__(
        self,
        output_dir: str | Path,
        formats: Sequence[str] = ("nifti",),
        model: ModelIdentity | None = None,
        overwrite: bool = True,
        worklist: str | Path | None = None,
    ) -> None:
        formats = (formats,) if isinstance(formats, str) else tuple(formats)
        if "dicom" in formats and find_spec("pydicom") is None:
            raise ImportError("'formats': dicom needs the package pydicom: pip install pydicom")
        self.output_dir = Path(output_dir)
        self.formats = formats
        self.model = model or ModelIdentity()
        self.overwrite = overwrite
        self.worklist = None if worklist is None else Worklist(worklist)
        self.raw: RawVolume | None = None

    @property
    def begun(self) -> RawVolume:
        """The volume that was begun; RuntimeError where none was."""
        if self.raw is None:
            raise RuntimeError("volume writer: expected a volume to be begun, found none")
        return self.raw

    def attach(self, engine: Workflow) -> None:
        """Attach to the evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._take)

    def _take(self, engine: Workflow) -> None:
        output = engine.state.output
        for index, image in zip(output[CommonKeys.LABEL]["slice"], output[CommonKeys.PRED], strict=True):
            self.add(int(index), image)

    def begin(self, raw: RawVolume) -> None:
        """Make room for a volume.

        Raises:
            OSError: not enough disk for it.
        """
        shape = (raw.num_slices, *raw.crop)
        check_disk_space(self.output_dir, 4 * int(np.prod(shape)) * (1 + len(self.formats)))
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=self.output_dir)  # noqa: SIM115 closed by discard
        with full_disk_told(self.output_dir / Path(raw.path).stem):
            os.posix_fallocate(self._file.fileno(), 0, 4 * int(np.prod(shape)))  # a mapped page without room kills
        self._images = np.memmap(self._file, np.float32, "w+", shape=shape)
        self._missing = set(range(raw.num_slices))
        self.raw = raw if self.worklist is None else self.worklist.complete(raw)

    def add(self, index: int, image: Tensor) -> None:
        """Take the image (1, H, W) of a slice, cropped to the size that the raw data state.

        Raises:
            ValueError: NaN or Inf, naming file and slice.
        """
        values = center_crop(image, self.begun.crop)[0].float().cpu().numpy()
        if not np.isfinite(values).all():
            raise ValueError(f"{self.begun.path}: image of slice {index}: expected finite values, found NaN or Inf")
        self._images[index] = values
        self._missing.discard(index)

    def finish(self, name: str) -> list[Path]:
        """Write the volume as ``name``, a relative path without suffix; return what was written.

        Raises:
            RuntimeError: slices are missing.
            ValueError: an image of zeros alone.
        """
        if self._missing:
            raise RuntimeError(f"{self.begun.path}: expected every slice, slices {sorted(self._missing)} are missing")
        if not self._images.any():
            raise ValueError(f"{self.begun.path}: image: expected a signal, found zeros alone")
        outputs = self.outputs(name)
        try:
            if "nifti" in outputs:
                write_nifti(outputs["nifti"], self._images, self.begun.geometry, str(self.model))
                self._write_notes(self.output_dir / f"{name}.json")
            if "dicom" in outputs:
                from scripts.inference.dicom import write_dicom  # pydicom is needed for this format alone

                write_dicom(outputs["dicom"], self._images, self.begun, self.model)
                if not self.begun.geometry.oriented:
                    logger.warning("%s: no position in the raw data: DICOM is secondary capture", self.begun.path)
        finally:
            self.discard()
        return list(outputs.values())

    def _write_notes(self, path: Path) -> None:
        """Beside a NIfTI file, whose header has no room for them; slices are counted from 0."""
        notes, slices = list(self.begun.notes), {str(i): note for i, note in sorted(self.begun.slice_notes.items())}
        if notes or slices:
            write_text(path, json.dumps({"model": str(self.model), "notes": notes, "slices": slices}, indent=1) + "\n")
        else:
            path.unlink(missing_ok=True)  # of a volume that is replaced

    def outputs(self, name: str) -> dict[str, Path]:
        """What a volume of this name is written as, by its format."""
        endings = {"nifti": f"{name}.nii.gz", "dicom": f"{name}_dicom"}
        return {kind: self.output_dir / endings[kind] for kind in self.formats}

    def refuse_existing(self, name: str) -> None:
        """Refuse to write over an output that is there, unless the writer was told to.

        Raises:
            FileExistsError: naming the output.
        """
        for path in self.outputs(name).values():
            if path.exists() and not self.overwrite:
                raise FileExistsError(
                    f"{path}: is there already; choose another 'output_dir', or add --overwrite true to replace it"
                )

    def discard(self) -> None:
        """Drop the volume that was begun, if any."""
        if self.raw is not None:
            self.raw = None
            del self._images
            self._file.close()


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


class Worklist:
    """A CSV file with a line for each expected scan; it is read anew for each scan.

    The first column is a field of the ISMRMRD header by which a scan is found, such as ``measurementID``; the others
    are fields of the header (:data:`FIELDS`) that the line states in the header's place. An empty cell leaves the
    header's.

    Args:
        path: The file.

    Raises:
        FileNotFoundError, ValueError: no such file, or no such columns; the column is named.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._read()

    def complete(self, raw: RawVolume) -> RawVolume:
        """The series with the fields of its line; without one, or a file to read, which is logged, as it is."""
        try:
            key, lines = self._read()
        except (OSError, ValueError) as error:  # an image is not lost for it
            logger.error("%s: patient and study are the header's: %s", raw.path, error)
            return raw
        value = raw.fields.get(key, "")
        if value not in lines:
            logger.warning("%s: patient and study are the header's: its %s is not in %s", raw.path, key, self.path)
            return raw
        return replace(raw, fields={**raw.fields, **lines[value]})

    def _read(self) -> tuple[str, Mapping[str, Mapping[str, str]]]:
        """The name of the key, and the fields that each of its values stands for."""
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            key, *columns = reader.fieldnames or [""]
            if not key or not columns or (unknown := set(columns) - set(FIELDS)):
                found = ", ".join(sorted(unknown)) if key and columns else f"{[key, *columns]}"
                raise ValueError(
                    f"{self.path}: expected a field of the header and then some of {', '.join(FIELDS)}, found {found}"
                )
            lines: dict[str, dict[str, str]] = {}
            for row in reader:
                if None in row or None in row.values() or row[key] in lines or not row[key]:
                    expected = f"expected {1 + len(columns)} cells and a {key} of its own"
                    raise ValueError(f"{self.path}, line {reader.line_num}: {expected}, found {list(row.values())}")
                lines[row[key]] = {name: row[name].strip() for name in columns if row[name].strip()}
        return key, lines
