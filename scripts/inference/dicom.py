"""Image volumes as a series of DICOM images."""

from __future__ import annotations

import copy
import datetime
import hashlib
import json
import logging
import math
import os
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, SecondaryCaptureImageStorage

from scripts.inference.geometry import Geometry
from scripts.inference.model_identity import NOT_AUDITED, ModelIdentity
from scripts.inference.raw_volume import RawVolume
from scripts.run.files import atomic_folder

LEVELS = 2**16 - 1
UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
logger = logging.getLogger(__name__)
PLANES = {0: ((0, 1, 0), (0, 0, -1)), 1: ((1, 0, 0), (0, 0, -1)), 2: ((1, 0, 0), (0, 1, 0))}
"""How radiologists expect a plane, by the axis (LPS) that its normal is nearest to: directions of a row and a column.

Sagittal: to the back and down; coronal: to the left and down; axial: to the left and to the back.
"""
WINDOW = (0.01, 0.995)
"""Shares of the pixels of a series that are black and that are not yet white."""
NO_UNITS = ("1", "UCUM", "no units")


def rescale_slope(maximum: float, levels: int = LEVELS) -> float:
    """Value of one grey level: ``maximum`` is the highest of 65535 levels; rounded up to 16 characters.

    A float image and the image that DICOM gives back differ by at most half of it.

    >>> 1.0 <= rescale_slope(1.0) * 65535 < 1.0 + 1e-7
    True
    """
    if maximum <= 0:
        return 1.0
    slope = maximum / levels
    return float(f"{slope * (1 + 1e-9):.9e}")


def grey_levels(image: np.ndarray, slope: float) -> np.ndarray:
    """Grey levels (h, w) uint16 of an image: its values divided by the slope and rounded."""
    return np.clip(np.rint(np.asarray(image, np.float64) / slope), 0, LEVELS).astype("<u2")


def window(levels: Sequence[np.ndarray]) -> tuple[str, str]:
    """Centre and width of the window of a series, between the shares :data:`WINDOW` of its pixels.

    >>> window([np.arange(1000, dtype=np.uint16)])
    ('502', '985')
    """
    counts = np.sum([np.bincount(level.ravel(), minlength=LEVELS + 1) for level in levels], axis=0)
    below = np.cumsum(counts) / counts.sum()
    low, high = (int(np.searchsorted(below, share)) for share in WINDOW)
    return str(round((low + high) / 2)), str(max(high - low, 1))


def for_display(geometry: Geometry, shape: tuple[int, ...]) -> tuple[Callable[[np.ndarray], np.ndarray], Geometry]:
    """How to turn images so that their plane lies as radiologists expect it, and the geometry of the turned ones.

    Of the eight ways to swap and reverse rows and columns, the one that is nearest to :data:`PLANES`; no pixel changes
    its value or its place in the patient. Without an orientation nothing is turned.

    Args:
        geometry: Of images of this shape.
        shape: (h, w).

    Returns:
        A function of an image (h, w), and the geometry.
    """
    spacing, positions = geometry.spacing, geometry.positions
    along_row, along_column = geometry.row_direction, geometry.column_direction
    if spacing is None or positions is None or along_row is None or along_column is None:
        return (lambda image: image), geometry
    wanted = np.array(PLANES[int(np.argmax(np.abs(np.cross(along_row, along_column))))], float)
    rows_fit, columns_fit = (abs(wanted[0] @ direction) for direction in (along_row, along_column))
    swapped = bool(columns_fit > rows_fit)
    axes = [(along_column, shape[0], spacing[0]), (along_row, shape[1], spacing[1])]  # index: row, column
    if swapped:
        axes.reverse()
    corner, directions, flips = np.array(positions, float), [], []
    for (direction, count, step), target in zip(axes, (wanted[1], wanted[0]), strict=True):
        flip = bool(direction @ target < 0)
        corner = corner + flip * (count - 1) * step * direction
        directions.append(-direction if flip else direction)
        flips.append(-1 if flip else 1)

    def turn(image: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray((image.T if swapped else image)[:: flips[0], :: flips[1]])

    along_column, along_row = directions
    spacing = axes[0][2], axes[1][2]
    return turn, replace(
        geometry, spacing=spacing, positions=corner, row_direction=along_row, column_direction=along_column
    )


def write_dicom(folder: str | Path, images: np.ndarray, raw: RawVolume, model: ModelIdentity) -> None:
    """Write one series, a file per slice, whole or not at all; a folder that is there is replaced.

    MR Image Storage where the raw data state position and orientation, which that class demands; else Secondary
    Capture with modality MR, since a position is never invented. Patient and study are those of the ISMRMRD
    header; what it does not state stays empty. UIDs follow from scan, model and images: what is written twice has the
    same, and an archive keeps it once. Images are turned so that each plane lies as radiologists expect it; positions
    and directions follow. Files can be read by their owner and group alone.

    Pixels are grey levels, with one window for the series. A real-world value mapping has the values of the images: its
    slope, the highest value / 65535, is the same for all slices.

    Args:
        folder: The folder to make, with files ``IM0001.dcm``, ….
        images: (slices, h, w) float, not negative.
        raw: The series: its geometry, header fields and notes.
        model: Its name and version are the series description; it is the contributing equipment.
    """
    folder = Path(folder)
    digest = hashlib.sha256()
    for image in images:
        digest.update(np.ascontiguousarray(image, np.float32).tobytes())
    series_uid = uid_of(raw.identity, raw.suffix, *model_texts(model), digest.hexdigest())
    turn, geometry = for_display(raw.geometry, images.shape[1:])
    raw = replace(raw, geometry=geometry)
    common = _common(raw, model, series_uid)
    slope = rescale_slope(max(float(image.max()) for image in images))
    common.WindowCenter, common.WindowWidth = window([grey_levels(image, slope) for image in images])
    with atomic_folder(folder) as temporary:
        for index, image in enumerate(images):
            instance = _instance(common, turn(image), index, slope, raw)
            file = temporary / f"IM{index + 1:04d}.dcm"
            instance.save_as(file, enforce_file_format=True)
            os.chmod(file, 0o640)


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
    ds.PatientSex = sex if (sex := fields.get("patientGender", "")) in ("M", "F", "O") else ""
    ds.StudyInstanceUID = texts.read("studyInstanceUID", _uid) or uid_of(raw.identity, "study")
    ds.StudyDate, ds.StudyTime = texts.read("studyDate", _date), texts.read("studyTime", _time)
    ds.StudyID, ds.AccessionNumber = texts.identifier("studyID", 16), texts.identifier("accessionNumber", 16)
    ds.ReferringPhysicianName = ""
    # series and equipment
    ds.Modality = "MR"
    ds.Laterality = ""
    ds.SeriesInstanceUID = series_uid
    ds.SeriesNumber = series_number(raw.number, fields.get("initialSeriesNumber"))
    ds.SeriesDescription = _line(series_description(model, raw.suffix))
    ds.Manufacturer = texts.line("systemVendor", 64)
    for keyword, name, longest in (
        ("ProtocolName", "protocolName", 64),
        ("ManufacturerModelName", "systemModel", 64),
        ("StationName", "stationName", 16),
        ("InstitutionName", "institutionName", 64),
    ):
        if fields.get(name):
            setattr(ds, keyword, texts.line(name, longest))
    ds.SoftwareVersions = _line(model.version)[:64]
    # general image
    ds.ImageType = ["DERIVED", "PRIMARY", "OTHER"] if geometry.oriented else ["DERIVED", "PRIMARY"]
    made = "; ".join((f"Reconstructed from undersampled k-space by {model}", *raw.notes))
    ds.DerivationDescription = made[:1024]
    ds.LossyImageCompression = "00"
    ds.ContributingEquipmentSequence = [_equipment(model)]
    if geometry.oriented:
        _add_mr(ds, raw)
        return ds
    ds.ConversionType = "WSD"
    ds.PatientOrientation = ""
    if geometry.spacing is not None:
        ds.NominalScannedPixelSpacing = [_decimal(value) for value in geometry.spacing]
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
    certificate = f"certificate of unlearning {model.certificate_id}" if model.certificate_id else NOT_AUDITED
    item.ContributionDescription = (
        f"Reconstruction; weights: {model.role or 'of unknown role'}, "
        f"SHA-256 {model.weights_sha256 or 'unknown'}; {certificate}"
    )
    return item


def _add_mr(ds: Dataset, raw: RawVolume) -> None:
    geometry, fields = raw.geometry, raw.fields
    spacing, positions, step = geometry.spacing, geometry.positions, geometry.slice_step
    along_row, along_column = geometry.row_direction, geometry.column_direction
    if spacing is None or positions is None or along_row is None or along_column is None:
        raise ValueError(f"{raw.path}: expected position and orientation for an MR image, found none")
    frame = _Texts(raw).read("frameOfReferenceUID", _uid)
    ds.FrameOfReferenceUID = frame or uid_of(raw.identity, "frame of reference")
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
    for keyword, name, unit in (
        ("MagneticFieldStrength", "systemFieldStrength_T", 1),
        ("ImagingFrequency", "H1resonanceFrequency_Hz", 1e-6),
        ("FlipAngle", "flipAngle_deg", 1),
    ):
        if value := _number(fields.get(name)):
            setattr(ds, keyword, _decimal(value * unit))
    ds.EchoTrainLength = None


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
    ds.RealWorldValueMappingSequence = [_real_world_values(slope)]
    ds.PixelData = grey_levels(image, slope).tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _real_world_values(slope: float) -> Dataset:
    """What a grey level stands for, in the units of the raw data."""
    units = Dataset()
    units.CodeValue, units.CodingSchemeDesignator, units.CodeMeaning = NO_UNITS
    item = Dataset()
    item.MeasurementUnitsCodeSequence = [units]
    item.LUTExplanation, item.LUTLabel = "Magnitude in the units of the raw data", "MAGNITUDE"
    item.RealWorldValueFirstValueMapped, item.RealWorldValueLastValueMapped = 0, LEVELS
    item.RealWorldValueIntercept, item.RealWorldValueSlope = 0.0, slope
    return item


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


def series_description(model: ModelIdentity, suffix: str) -> str:
    """Name, version, role, first digits of the weights' hash, certificate or "not audited", and the series.

    Where it is longer than the 64 characters that DICOM allows, the name is cut.

    >>> series_description(ModelIdentity("Model", "1.0", "ab" * 32, role="oracle"), "_set-1")
    'Model 1.0 oracle abababab not audited_set-1'
    """
    texts = (model.version, model.role, model.weights_sha256[:8], model.audit)
    rest = "".join(f" {text}" for text in texts if text) + suffix
    return (model.name[: max(64 - len(rest), 0)] + rest).strip()[:64]


def model_texts(model: ModelIdentity) -> tuple[str, ...]:
    """All that tells one model from another."""
    return model.name, model.version, model.weights_sha256, model.certificate_id, model.role


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
