"""Image volumes as a series of DICOM images."""

from __future__ import annotations

import copy
import datetime
import hashlib
import json
import logging
import math
import re
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

from scripts.inference.geometry import Geometry
from scripts.inference.model_identity import ModelIdentity
from scripts.inference.raw_volume import RawVolume
from scripts.run.files import atomic_folder

LEVELS = 2**16 - 1
UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
SEXES = {"M": "M", "F": "F", "O": "O"}
logger = logging.getLogger(__name__)


def rescale_slope(maximum: float, levels: int = LEVELS) -> float:
    """Value of one grey level: ``maximum`` is the highest of 65535 levels; rounded up to what DICOM can state.

    A float image and the image that DICOM gives back differ by at most half of it.

    >>> 1.0 <= rescale_slope(1.0) * 65535 < 1.0 + 1e-7
    True
    """
    if maximum <= 0:
        return 1.0
    slope = maximum / levels
    return float(f"{slope * (1 + 1e-9):.9e}")  # at most 16 characters, the length of a decimal string


def write_dicom(folder: str | Path, images: np.ndarray, raw: RawVolume, model: ModelIdentity) -> None:
    """Write one series, a file per slice, whole or not at all; a folder that is there is replaced.

    MR Image Storage where the raw data state position and orientation, which that class demands; else Secondary
    Capture with modality MR, since a position is never invented. Patient and study are those of the ISMRMRD
    header; what it does not state stays empty. All slices share the slope of :func:`rescale_slope`. UIDs follow from
    scan, model and images: what is written twice has the same, and an archive keeps it once.

    Args:
        folder: The folder to make, with files ``IM0001.dcm``, ….
        images: (slices, h, w) float, not negative.
        raw: The series: its geometry, header fields and notes.
        model: Its name and version are the series description; it is the contributing equipment.
    """
    folder = Path(folder)
    common = _common(raw, model, uid_of(raw.scan_id, raw.suffix, *model_texts(model), _digest(images)))
    slope = rescale_slope(max(float(image.max()) for image in images))
    with atomic_folder(folder) as temporary:
        for index, image in enumerate(images):
            instance = _instance(common, image, index, slope, raw)
            instance.save_as(temporary / f"IM{index + 1:04d}.dcm", enforce_file_format=True)


def _common(raw: RawVolume, model: ModelIdentity, series_uid: str) -> Dataset:
    """What every image of the series says, module by module."""
    geometry, fields, texts = raw.geometry, raw.fields, _Texts(raw)
    now = datetime.datetime.now()
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = MRImageStorage if geometry.oriented else SecondaryCaptureImageStorage
    ds.InstanceCreationDate, ds.InstanceCreationTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    # patient and study
    ds.PatientName = texts.name("patientName")
    ds.PatientID = texts.identifier("patientID" if fields.get("patientID") else "patient_id", 64)
    ds.PatientBirthDate = texts.read("patientBirthdate", _date)
    ds.PatientSex = SEXES.get(fields.get("patientGender", ""), "")
    ds.StudyInstanceUID = texts.read("studyInstanceUID", _uid) or uid_of(raw.scan_id, "study")
    ds.StudyDate, ds.StudyTime = texts.read("studyDate", _date), texts.read("studyTime", _time)
    ds.StudyID, ds.AccessionNumber = texts.identifier("studyID", 16), texts.identifier("accessionNumber", 16)
    ds.ReferringPhysicianName = ""
    # series and equipment
    ds.Modality = "MR"
    ds.Laterality = ""
    ds.SeriesInstanceUID = series_uid
    ds.SeriesNumber = series_number(raw.number, fields.get("initialSeriesNumber"))
    ds.SeriesDescription = _line(f"{model}{raw.suffix}")[-64:]
    ds.Manufacturer = texts.line("systemVendor", 64)
    if fields.get("systemModel"):
        ds.ManufacturerModelName = texts.line("systemModel", 64)
    ds.SoftwareVersions = _line(model.version)[:64]
    # general image
    ds.ImageType = ["DERIVED", "PRIMARY", "OTHER"] if geometry.oriented else ["DERIVED", "PRIMARY"]
    made = "; ".join((f"Reconstructed from undersampled k-space by {model}", *raw.notes))
    ds.DerivationDescription = made[:1024]
    ds.LossyImageCompression = "00"
    ds.ContributingEquipmentSequence = [_equipment(model)]
    _add_mr(ds, raw) if geometry.oriented else _add_secondary_capture(ds, geometry)
    return ds


def _equipment(model: ModelIdentity) -> Dataset:
    """The model as equipment that contributed to the image."""
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer = item.ManufacturerModelName = _line(model.name or "unnamed model")[:64]
    item.SoftwareVersions = _line(model.version)[:64]
    if model.weights_sha256:
        item.DeviceSerialNumber = model.weights_sha256  # 64 characters, the longest that is allowed
    certificate = model.certificate_id or "none"
    item.ContributionDescription = (
        f"Reconstruction; SHA-256 of the weights {model.weights_sha256 or 'unknown'}; "
        f"certificate of unlearning {certificate}"
    )
    return item


def _add_mr(ds: Dataset, raw: RawVolume) -> None:
    geometry, fields = raw.geometry, raw.fields
    spacing, positions, step = geometry.spacing, geometry.positions, geometry.slice_step
    along_row, along_column = geometry.row_direction, geometry.column_direction
    if spacing is None or positions is None or along_row is None or along_column is None:
        raise ValueError(f"{raw.path}: expected position and orientation for an MR image, found none")
    frame = _Texts(raw).read("frameOfReferenceUID", _uid)
    ds.FrameOfReferenceUID = frame or uid_of(raw.scan_id, "frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.PatientPosition = _Texts(raw).read("patientPosition", _position)
    ds.PixelSpacing = [_decimal(value) for value in spacing]
    ds.ImageOrientationPatient = [_decimal(v) for v in (*along_row, *along_column)]
    ds.SliceThickness = None if geometry.slice_thickness is None else _decimal(geometry.slice_thickness)
    if len(positions) > 1 and step is not None:
        ds.SpacingBetweenSlices = _decimal(float(np.linalg.norm(step)))
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


def _instance(common: Dataset, image: np.ndarray, index: int, slope: float, raw: RawVolume) -> Dataset:
    ds = copy.deepcopy(common)
    ds.SOPInstanceUID = uid_of(common.SeriesInstanceUID, str(index))
    ds.InstanceNumber = index + 1
    if index in raw.slice_notes:
        ds.ImageComments = raw.slice_notes[index]
    if raw.geometry.positions is not None and raw.geometry.oriented:
        ds.ImagePositionPatient = [_decimal(value) for value in raw.geometry.positions[index]]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = image.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", f"{slope:.9e}", "US"
    levels = np.rint(np.asarray(image, np.float64) / slope)
    ds.PixelData = np.clip(levels, 0, LEVELS).astype("<u2").tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def uid_of(*identity: str) -> str:
    """A UID below 2.25 that is the same for the same texts, and for no others.

    >>> uid_of("a", "b") == uid_of("a", "b"), uid_of("a", "b") == uid_of("ab", "")
    (True, False)
    """
    digest = hashlib.sha256(json.dumps(identity).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def series_number(number: int, initial: str | None) -> int:
    """The number of a series in its study: 100 times the scan's own, where the header states one, and its place.

    >>> series_number(2, "7"), series_number(2, None)
    (702, 2)
    """
    return number + 100 * int(initial) if initial and re.fullmatch(r"\d{1,7}", initial, re.ASCII) else number


def model_texts(model: ModelIdentity) -> tuple[str, ...]:
    """All that tells one model from another."""
    return model.name, model.version, model.weights_sha256, model.certificate_id


def _digest(images: np.ndarray) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(np.ascontiguousarray(image, np.float32).tobytes())
    return digest.hexdigest()


class _Texts:
    """The header's texts as DICOM allows them; what had to be replaced or left empty is logged, without its value.

    A backslash would make two values of one, and two patients with one identifier would be merged: an identifier that
    is too long ends with a hash of the whole.
    """

    def __init__(self, raw: RawVolume) -> None:
        self.raw = raw

    def read(self, name: str, parse: Callable[[str], str]) -> str:
        """What ``parse`` makes of a field, "" where it makes nothing of it."""
        text = self.raw.fields.get(name, "").strip()
        return self._logged(name, parse(text), text and not parse(text), "left empty")

    def line(self, name: str, longest: int) -> str:
        """A field as one line."""
        text = self.raw.fields.get(name, "").strip()
        line = _line(text)[:longest].strip()
        return self._logged(name, line, line != text, "replaced")

    def identifier(self, name: str, longest: int) -> str:
        """A field as one line that stays unlike others."""
        text = self.raw.fields.get(name, "").strip()
        line = _line(text)
        if len(line) > longest:
            line = f"{line[: longest - 9]}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        return self._logged(name, line, line != text, "replaced")

    def name(self, name: str) -> str:
        """A person's name: at most three groups of at most five components, each group at most 64 characters."""
        text = self.raw.fields.get(name, "").strip()
        groups = []
        for group in _line(text).split("=")[:3]:
            components = group.split("^")
            groups.append("^".join([*components[:4], " ".join(components[4:])] if components[4:] else components))
        person = "=".join(group[:64].strip() for group in groups)
        return self._logged(name, person, person != text, "replaced")

    def _logged(self, name: str, text: str, changed: object, how: str) -> str:
        if changed:
            logger.warning("%s: header: %r: no text that DICOM allows there: %s", self.raw.path, name, how)
        return text


def _line(text: str) -> str:
    """One value on one line: a slash for each backslash, a space for whatever is no character to print."""
    return "".join(c if c.isprintable() else " " for c in text).replace("\\", "/").strip()


def _uid(text: str) -> str:
    return text if len(text) <= 64 and UID.fullmatch(text) else ""


def _position(text: str) -> str:
    return text.upper() if re.fullmatch(r"[HF]F(S|P|D[LR])|[LR]F[SP]|[AP]F[SPD][LR]?", text.upper()) else ""


def _date(text: str) -> str:
    """``2024-01-31`` or ``20240131``, with or without a time zone, as DICOM writes it; "" for no day of a calendar."""
    found = re.fullmatch(r"(\d{4})-?(\d{2})-?(\d{2})(Z|[+-]\d{2}:\d{2})?", text, re.ASCII)
    try:
        return f"{datetime.date.fromisoformat('-'.join(found.groups()[:3])):%Y%m%d}" if found else ""
    except ValueError:
        return ""


def _time(text: str) -> str:
    """``12:30:15`` or ``123015``, with or without fraction and time zone; "" for no time of a day."""
    found = re.fullmatch(r"(\d{2}):?(\d{2}):?(\d{2})(\.\d+)?(Z|[+-]\d{2}:\d{2})?", text, re.ASCII)
    try:
        return f"{datetime.time.fromisoformat(':'.join(found.groups()[:3])):%H%M%S}" if found else ""
    except ValueError:
        return ""


def _number(text: str | None) -> float:
    """A number above 0; else 0."""
    try:
        number = float(text or 0)
    except ValueError:
        return 0.0
    return number if 0 < number < math.inf else 0.0


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return f"{float(value):.8g}"
