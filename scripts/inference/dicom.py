"""Image volumes as a series of DICOM images."""

from __future__ import annotations

import copy
import datetime
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from scripts.inference.geometry import Geometry

LEVELS = 2**16 - 1
UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
SEXES = {"M": "M", "F": "F", "O": "O"}


def rescale_slope(maximum: float) -> float:
    """Value of one grey level: ``maximum`` is the highest of 65535 levels; rounded up to what DICOM can state.

    A float image and the image that DICOM gives back differ by at most half of it.

    >>> 1.0 <= rescale_slope(1.0) * 65535 < 1.0 + 1e-7
    True
    """
    if maximum <= 0:
        return 1.0
    slope = maximum / LEVELS
    return float(f"{slope * (1 + 1e-9):.9e}")  # at most 16 characters, the length of a decimal string


def write_dicom(
    folder: str | Path,
    images: np.ndarray,
    geometry: Geometry,
    fields: Mapping[str, str],
    model_name: str,
    model_version: str,
) -> None:
    """Write one series, a file per slice, whole or not at all; a folder that is there is replaced.

    MR Image Storage where the raw data state position and orientation, which that class demands; else Secondary
    Capture with modality MR, since a position is never invented. Patient and study are those of the ISMRMRD
    header; what it does not state stays empty. All slices share the slope of :func:`rescale_slope`.

    Args:
        folder: to make, with files ``IM0001.dcm``, ….
        images: (slices, h, w) float, not negative.
        geometry: of these images.
        fields: texts of the ISMRMRD header by name.
        model_name: of the bundle; with the version it is the series description.
        model_version: of the bundle.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    common = _common(geometry, fields, model_name, model_version)
    slope = rescale_slope(max(float(image.max()) for image in images))
    temporary = Path(tempfile.mkdtemp(prefix=f".partial-{folder.name}-", dir=folder.parent))
    try:
        for index, image in enumerate(images):
            instance = _instance(common, image, index, slope, geometry)
            instance.save_as(temporary / f"IM{index + 1:04d}.dcm", enforce_file_format=True)
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _common(geometry: Geometry, fields: Mapping[str, str], name: str, version: str) -> Dataset:
    """What every image of the series says, module by module."""
    now = datetime.datetime.now()
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = MRImageStorage if geometry.oriented else SecondaryCaptureImageStorage
    ds.InstanceCreationDate, ds.InstanceCreationTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    # patient and study
    ds.PatientName = fields.get("patientName", "")
    ds.PatientID = fields.get("patientID", fields.get("patient_id", ""))[:64]
    ds.PatientBirthDate = _date(fields.get("patientBirthdate", ""))
    ds.PatientSex = SEXES.get(fields.get("patientGender", ""), "")
    ds.StudyInstanceUID = _uid(fields.get("studyInstanceUID"))
    ds.StudyDate, ds.StudyTime = _date(fields.get("studyDate", "")), _time(fields.get("studyTime", ""))
    ds.StudyID, ds.AccessionNumber = fields.get("studyID", "")[:16], fields.get("accessionNumber", "")[:16]
    ds.ReferringPhysicianName = ""
    # series and equipment
    ds.Modality = "MR"
    ds.Laterality = ""
    ds.SeriesInstanceUID = generate_uid(prefix=None)
    ds.SeriesNumber = 1
    ds.SeriesDescription = f"{name} {version}"[-64:]
    ds.Manufacturer = fields.get("systemVendor", "")[:64]
    if fields.get("systemModel"):
        ds.ManufacturerModelName = fields["systemModel"][:64]
    ds.SoftwareVersions = version[:64]
    # general image
    ds.ImageType = ["DERIVED", "PRIMARY", "OTHER"] if geometry.oriented else ["DERIVED", "PRIMARY"]
    ds.DerivationDescription = f"Reconstructed from undersampled k-space by {name} {version}"
    ds.LossyImageCompression = "00"
    _add_mr(ds, geometry, fields) if geometry.oriented else _add_secondary_capture(ds, geometry)
    return ds


def _add_mr(ds: Dataset, geometry: Geometry, fields: Mapping[str, str]) -> None:
    ds.FrameOfReferenceUID = _uid(fields.get("frameOfReferenceUID"))
    ds.PositionReferenceIndicator = ""
    ds.PatientPosition = fields.get("patientPosition", "").upper()
    ds.PixelSpacing = [_decimal(value) for value in geometry.spacing]
    ds.ImageOrientationPatient = [_decimal(v) for v in (*geometry.row_direction, *geometry.column_direction)]
    ds.SliceThickness = None if geometry.slice_thickness is None else _decimal(geometry.slice_thickness)
    if len(geometry.positions) > 1:
        ds.SpacingBetweenSlices = _decimal(np.linalg.norm(geometry.slice_step))
    ds.ScanningSequence = "RM"  # "research mode": the ISMRMRD header has no term of DICOM for the sequence
    ds.SequenceVariant = "NONE"
    ds.ScanOptions = ""
    ds.MRAcquisitionType = "2D"
    for keyword, name in (("RepetitionTime", "TR"), ("EchoTime", "TE"), ("InversionTime", "TI")):
        if (value := _number(fields.get(name))) or keyword != "InversionTime":
            setattr(ds, keyword, _decimal(value) if value else None)
    ds.EchoTrainLength = None


def _add_secondary_capture(ds: Dataset, geometry: Geometry) -> None:
    ds.ConversionType = "WSD"
    ds.PatientOrientation = ""
    if geometry.spacing is not None:
        ds.NominalScannedPixelSpacing = [_decimal(value) for value in geometry.spacing]


def _instance(common: Dataset, image: np.ndarray, index: int, slope: float, geometry: Geometry) -> Dataset:
    ds = copy.deepcopy(common)
    ds.SOPInstanceUID = generate_uid(prefix=None)
    ds.InstanceNumber = index + 1
    if geometry.oriented:
        ds.ImagePositionPatient = [_decimal(value) for value in geometry.positions[index]]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = image.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", f"{slope:.9e}", "US"
    levels = np.rint(np.asarray(image, np.float64) / slope)
    ds.PixelData = np.clip(levels, 0, LEVELS).astype("<u2").tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _uid(text: str | None) -> str:
    """The header's UID where it is a valid one, else a new one."""
    return text if text and len(text) <= 64 and UID.fullmatch(text) else generate_uid(prefix=None)


def _date(text: str) -> str:
    """``2024-01-31`` or ``20240131`` as DICOM writes it; "" for anything else."""
    found = re.fullmatch(r"(\d{4})-?(\d{2})-?(\d{2})", text)
    return "".join(found.groups()) if found else ""


def _time(text: str) -> str:
    found = re.match(r"(\d{2}):?(\d{2}):?(\d{2})", text)
    return "".join(found.groups()) if found else ""


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return f"{float(value):.8g}"
