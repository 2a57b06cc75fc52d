"""NIfTI and DICOM: values, geometry, identity."""

import json
import shutil
import subprocess
from dataclasses import replace

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_validator.validator.dicom_file_validator import DicomFileValidator
from pydicom.uid import MRImageStorage, SecondaryCaptureImageStorage

from scripts.inference.dicom import rescale_slope, series_description, write_dicom
from scripts.inference.geometry import Geometry
from scripts.inference.model_identity import ModelIdentity, identify_model
from scripts.inference.raw_volume import RawVolume
from scripts.inference.volume_writer import write_nifti
from tests.inference.standard_tables import standard_tables

AXES = np.eye(3)
PLACED = Geometry(
    spacing=(0.5, 1.25),
    slice_thickness=4.0,
    positions=np.array([[-6.0, 12.0, 5.0 * z] for z in range(3)]),
    row_direction=AXES[0],
    column_direction=AXES[1],
    slice_direction=AXES[2],
)
UNPLACED = Geometry(spacing=(0.5, 1.25), slice_thickness=4.0)
MODEL = ModelIdentity("Model", "1.0", "ab" * 32, "cd" * 32)
FIELDS = {
    "studyInstanceUID": "1.2.826.0.1.9",
    "studyDate": "2024-01-31",
    "studyTime": "10:11:12",
    "systemVendor": "TEST",
    "patientPosition": "HFS",
    "protocolName": "t2_tse_tra",
    "stationName": "MR7",
    "systemFieldStrength_T": "2.89362",
    "H1resonanceFrequency_Hz": "123251800",
    "flipAngle_deg": "150",
    "TR": "500",
    "TE": "20",
}


@pytest.fixture
def images():
    return (np.random.default_rng(0).random((3, 20, 16)) * 3e-4).astype(np.float32)


def series(geometry, fields, **notes):
    return RawVolume("scan.h5", (3, 1, 20, 16), (20, 16), geometry, fields, scan_id="scan", **notes)


def read_series(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def test_nifti_values_and_geometry(images, tmp_path):
    write_nifti(tmp_path / "a.nii.gz", images, PLACED, "model 1.0")
    image = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), images.transpose(2, 1, 0))
    np.testing.assert_allclose(image.affine @ [0, 0, 1, 1], [6, -12, 5, 1])
    np.testing.assert_allclose(image.header.get_zooms(), (1.25, 0.5, 5.0))
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1
    assert image.header["descrip"].item() == b"model 1.0"


def test_nifti_invents_no_geometry(images, tmp_path):
    write_nifti(tmp_path / "a.nii.gz", images, UNPLACED)
    header = nib.load(tmp_path / "a.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
    np.testing.assert_allclose(header.get_zooms(), (1.25, 0.5, 4.0))
    write_nifti(tmp_path / "b.nii.gz", images, Geometry())
    assert nib.load(tmp_path / "b.nii.gz").header.get_xyzt_units()[0] == "unknown"


def test_equal_images_give_equal_files(images, tmp_path):
    for name in ("a", "b"):
        write_nifti(tmp_path / f"{name}.nii.gz", images, PLACED)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("geometry", [PLACED, UNPLACED], ids=["placed", "unplaced"])
def test_dicom_values_map_back(images, tmp_path, geometry):
    write_dicom(tmp_path / "s", images, series(geometry, FIELDS), MODEL)
    slope = rescale_slope(float(images.max()))
    for image, ds in zip(images, read_series(tmp_path / "s"), strict=True):
        mapping = ds.RealWorldValueMappingSequence[0]
        assert (mapping.RealWorldValueFirstValueMapped, mapping.RealWorldValueLastValueMapped) == (0, 65535)
        restored = ds.pixel_array * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept
        assert np.abs(restored - image).max() <= slope / 2 * (1 + 1e-6)
        low = ds.WindowCenter - ds.WindowWidth / 2
        assert np.mean(ds.pixel_array < low) < 0.05  # the window is that of the pixels as they are stored
        assert np.mean(ds.pixel_array > low + ds.WindowWidth) < 0.02
    assert slope == pytest.approx(images.max() / 65535, rel=1e-8)


def test_dicom_of_zeros(tmp_path):
    write_dicom(tmp_path / "s", np.zeros((1, 4, 4), np.float32), series(UNPLACED, {}), MODEL)
    assert not read_series(tmp_path / "s")[0].pixel_array.any()


def test_dicom_identity(images, tmp_path):
    write_dicom(tmp_path / "s", images, series(PLACED, FIELDS), MODEL)
    found = read_series(tmp_path / "s")
    assert {ds.StudyInstanceUID for ds in found} == {"1.2.826.0.1.9"}
    assert len({ds.SeriesInstanceUID for ds in found}) == len({ds.FrameOfReferenceUID for ds in found}) == 1
    assert len({ds.SOPInstanceUID for ds in found}) == len(found)
    first = found[0]
    assert all(element.value.is_valid for element in first if element.VR == "UI")
    assert first.file_meta.MediaStorageSOPClassUID == first.SOPClassUID == MRImageStorage
    assert first.SeriesDescription == "Model 1.0 abababab certificate cdcdcdcd"
    assert first.ImageType[0] == "DERIVED"
    assert (first.PatientName, first.PatientID, first.StudyDate) == ("", "", "20240131")
    assert [float(v) for v in first.PixelSpacing] == [0.5, 1.25]
    assert [float(v) for v in found[2].ImagePositionPatient] == [-6, 12, 10]
    assert [float(v) for v in first.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]
    assert (first.RepetitionTime, first.EchoTime, first.SpacingBetweenSlices) == (500, 20, 5)


TEXTS = {  # a field of the header -> how it may stand in DICOM: keyword, expected text
    "backslash in an identifier": ("patientID", "SITE\\001", "PatientID", "SITE/001"),
    "backslash in a name": ("patientName", "SMITH\\JONES^A", "PatientName", "SMITH/JONES^A"),
    "backslash in a vendor": ("systemVendor", "ACME\\MR", "Manufacturer", "ACME/MR"),
    "backslash in a number": ("accessionNumber", "AC\\C", "AccessionNumber", "AC/C"),
    "tab": ("patientID", "P\t1", "PatientID", "P 1"),
    "line break": ("patientName", "A\nB^C", "PatientName", "A B^C"),
    "four component groups": ("patientName", "a=b=c=d", "PatientName", "a=b=c"),
    "seven components": ("patientName", "a^b^c^d^e^f^g", "PatientName", "a^b^c^d^e f g"),
    "long name": ("patientName", "x" * 80 + "^y", "PatientName", "x" * 64),
    "three scripts": (
        "patientName",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "PatientName",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    "day that is none": ("studyDate", "2024-02-30", "StudyDate", ""),
    "day of birth that is none": ("patientBirthdate", "2000-02-30", "PatientBirthDate", ""),
    "day in another order": ("patientBirthdate", "31.01.2000", "PatientBirthDate", ""),
    "leap day": ("studyDate", "2024-02-29Z", "StudyDate", "20240229"),
    "time that is none": ("studyTime", "25:61:00", "StudyTime", ""),
    "time with a fraction": ("studyTime", "12:30:15.123456", "StudyTime", "123015"),
    "position that is none": ("patientPosition", "upside\\down", "PatientPosition", ""),
    "time of echo that is none": ("TE", "nan", "EchoTime", None),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_as_dicom_allows(images, tmp_path, caplog, name):
    field, text, keyword, expected = TEXTS[name]
    write_dicom(tmp_path / "s", images[:1], series(PLACED, {field: text}), MODEL)
    (found,) = read_series(tmp_path / "s")
    assert found.get(keyword) == expected  # one value: of several, pydicom makes a list
    logged = [record.getMessage() for record in caplog.records if repr(field) in record.getMessage()]
    assert len(logged) == (text != expected and field != "TE" and name not in ("leap day", "time with a fraction"))
    assert not any(text in message for message in logged)  # nothing of a patient in a log


def test_long_identifiers_stay_apart(images, tmp_path):
    found = []
    for end in "12":
        write_dicom(tmp_path / end, images[:1], series(PLACED, {"patientID": "i" * 89 + end}), MODEL)
        found.append(read_series(tmp_path / end)[0].PatientID)
    assert found[0] != found[1]
    assert {len(identifier) for identifier in found} == {64}


def test_dicom_names_station_protocol_and_field(images, tmp_path):
    write_dicom(tmp_path / "s", images, series(PLACED, FIELDS), MODEL)
    first = read_series(tmp_path / "s")[0]
    assert (first.StationName, first.ProtocolName) == ("MR7", "t2_tse_tra")
    assert (float(first.MagneticFieldStrength), float(first.ImagingFrequency)) == (2.89362, 123.2518)
    assert first.FlipAngle == 150


AXIAL, SAGITTAL, CORONAL = ((1, 0, 0), (0, 1, 0)), ((0, 1, 0), (0, 0, -1)), ((1, 0, 0), (0, 0, -1))


@pytest.mark.parametrize("plane", [AXIAL, SAGITTAL, CORONAL], ids=["axial", "sagittal", "coronal"])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_a_plane_lies_as_radiologists_expect_and_no_pixel_moves(images, tmp_path, plane, swapped, signs):
    """Each pixel's value at its place in the patient is that of the NIfTI file, which is not turned."""
    tilt = np.linalg.qr(np.eye(3) + 0.1 * np.random.default_rng(1).normal(size=(3, 3)))[0]
    tilt *= np.sign(np.diag(tilt))
    along_row, along_column = (
        sign * (tilt @ axis) for sign, axis in zip(signs, plane[::-1] if swapped else plane, strict=True)
    )
    normal = np.cross(along_row, along_column)
    places = np.array([[-6.0, 12.0, 3.0] + 5.0 * z * normal for z in range(3)])
    geometry = Geometry((0.5, 1.25), 4.0, places, along_row, along_column, normal)
    write_dicom(tmp_path / "s", images, series(geometry, {}), MODEL)
    write_nifti(tmp_path / "a.nii.gz", images, geometry)
    volume = nib.load(tmp_path / "a.nii.gz")
    to_voxel, values = np.linalg.inv(volume.affine), volume.get_fdata(dtype=np.float32)
    slope = rescale_slope(float(images.max()))
    for ds in read_series(tmp_path / "s"):
        row, column = np.split(np.array(ds.ImageOrientationPatient, float), 2)
        assert row @ plane[0] > 0.9
        assert column @ plane[1] > 0.9
        down, across = ds.PixelSpacing
        for r, c in ((0, 0), (0, ds.Columns - 1), (ds.Rows - 1, 0), (7, 11)):
            place = np.array(ds.ImagePositionPatient, float) + r * down * column + c * across * row
            voxel = to_voxel @ [-place[0], -place[1], place[2], 1]
            index = tuple(np.rint(voxel[:3]).astype(int))
            np.testing.assert_allclose(voxel[:3], index, atol=1e-3)
            assert ds.pixel_array[r, c] == np.rint(float(values[index]) / slope)


def test_networks_are_told_apart(images, tmp_path):
    """The role comes from the record beside the weights, or from a shipped bundle's metadata; never from the name."""
    bundle = tmp_path / "bundle"
    (bundle / "docs").mkdir(parents=True)
    (bundle / "configs").mkdir()
    records = {
        "original": {"verb": "train", "oracle": False},
        "oracle": {"verb": "train", "oracle": True},
        "unlearned_gain_target": {"verb": "unlearn", "method": "gain_target"},
        "unlearned_reset_and_heal": {"verb": "unlearn", "method": "reset_and_heal"},
    }
    weights, described = tmp_path / "model.pt", set()
    for role, record in records.items():
        weights.write_bytes(role.encode())
        weights.with_suffix(".json").write_text(json.dumps(record))
        model = identify_model("Model", "1.0", weights, bundle)
        assert (model.role, model.audit) == (role, "not audited")
        write_dicom(tmp_path / "s", images, series(PLACED, FIELDS), model)
        first = read_series(tmp_path / "s")[0]
        assert first.SeriesDescription == f"Model 1.0 {role} {model.weights_sha256[:8]} not audited"
        assert role in first.ContributingEquipmentSequence[0].ContributionDescription
        assert model.tag == f"{role}-{model.weights_sha256[:8]}"
        described.add((first.SeriesDescription, first.SeriesInstanceUID))
    assert len(described) == len(records)
    weights.with_suffix(".json").unlink()
    assert identify_model("Model", "1.0", weights, bundle).role == ""
    (bundle / "configs" / "metadata.json").write_text('{"weights_role": "oracle"}')
    statement = {"subject": [{"digest": {"sha256": "0" * 64}}]}
    (bundle / "docs" / "certificate.json").write_text(json.dumps(statement))
    of_others = identify_model("Model", "1.0", weights, bundle)
    assert (of_others.role, of_others.audit) == ("oracle", "not audited")
    statement["subject"][0]["digest"]["sha256"] = of_others.weights_sha256
    (bundle / "docs" / "certificate.json").write_text(json.dumps(statement))
    assert identify_model("Model", "1.0", weights, bundle).audit.startswith("certificate ")
    long = replace(model, name="a model with a name " * 5)
    assert len(series_description(long, "_repetition-1")) == 64
    assert series_description(long, "_repetition-1").endswith("not audited_repetition-1")


def test_files_are_for_owner_and_group_alone(images, tmp_path):
    write_dicom(tmp_path / "s", images, series(PLACED, FIELDS), MODEL)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "s").iterdir()} == {0o640}


def test_series_of_a_study_have_numbers_of_their_own(images, tmp_path):
    def number(place, **fields):
        write_dicom(tmp_path / "s", images, replace(series(PLACED, fields), number=place), MODEL)
        return {ds.SeriesNumber for ds in read_series(tmp_path / "s")}

    assert [number(place) for place in (1, 2)] == [{1}, {2}]
    assert [number(place, initialSeriesNumber="7") for place in (1, 2)] == [{701}, {702}]
    assert number(3, initialSeriesNumber="no number") == number(3, initialSeriesNumber="9" * 12) == {3}


def test_dicom_names_the_model_and_what_was_done(images, tmp_path):
    raw = series(PLACED, FIELDS, notes=("prewhitened", "partial Fourier: 3"), slice_notes={1: "zero-filled"})
    write_dicom(tmp_path / "s", images, raw, MODEL)
    first, second, _ = read_series(tmp_path / "s")
    equipment = first.ContributingEquipmentSequence[0]
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Processing Equipment"
    assert (equipment.ManufacturerModelName, equipment.SoftwareVersions) == ("Model", "1.0")
    assert equipment.DeviceSerialNumber == "ab" * 32
    assert f"certificate of unlearning {'cd' * 32}" in equipment.ContributionDescription
    assert "prewhitened; partial Fourier: 3" in first.DerivationDescription
    assert "ImageComments" not in first
    assert second.ImageComments == "zero-filled"


def test_what_is_written_twice_has_the_same_uids(images, tmp_path):
    def uids(name, values=images, raw=None, model=MODEL):
        write_dicom(tmp_path / name, values, raw or series(UNPLACED, {}), model)
        return [(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID) for ds in read_series(tmp_path / name)]

    first = uids("a")
    assert uids("b") == first
    other_model = uids("c", model=ModelIdentity("Model", "1.0", "ef" * 32))
    other_images = uids("d", values=images * 2)
    assert other_model[0][0] == other_images[0][0] == first[0][0]  # the study is the scan's
    assert len({uid for run in (first, other_model, other_images) for _, _, uid in run}) == 9
    other_series = uids("e", raw=RawVolume("scan.h5", (3, 1, 20, 16), (20, 16), UNPLACED, {}, scan_id="other"))
    assert other_series[0][0] != first[0][0]


def test_dicom_without_position_is_secondary_capture(images, tmp_path):
    write_dicom(tmp_path / "s", images, series(UNPLACED, {}), MODEL)
    first = read_series(tmp_path / "s")[0]
    assert first.SOPClassUID == SecondaryCaptureImageStorage
    assert "ImagePositionPatient" not in first
    assert [float(v) for v in first.NominalScannedPixelSpacing] == [0.5, 1.25]


def test_a_series_is_replaced_whole(images, tmp_path):
    write_dicom(tmp_path / "s", images, series(UNPLACED, {}), MODEL)
    write_dicom(tmp_path / "s", images[:1], series(UNPLACED, {}), MODEL)
    assert [path.name for path in tmp_path.rglob("*")] == ["s", "IM0001.dcm"]
    with pytest.raises(ValueError, match="could not broadcast|NaN|shape|unpack"):
        write_dicom(tmp_path / "t", np.zeros((1, 4, 4, 4)), series(UNPLACED, {}), MODEL)
    assert not (tmp_path / "t").exists()


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (Debian package dicom3tools)")
@pytest.mark.parametrize("geometry", [PLACED, UNPLACED], ids=["placed", "unplaced"])
@pytest.mark.parametrize("fields", [FIELDS, {}], ids=["header", "bare"])
def test_dicom_is_valid(images, tmp_path, geometry, fields):
    write_dicom(tmp_path / "s", images, series(geometry, fields), MODEL)
    for path in (tmp_path / "s").iterdir():
        report = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False).stderr
        assert not [line for line in report.splitlines() if line.startswith(("Error", "Abort"))], report


def validated(folder):
    """What dicom-validator finds in each file of a folder, by the tags of the attributes."""
    validator = DicomFileValidator(standard_tables(MRImageStorage, SecondaryCaptureImageStorage))
    found = {}
    for path, result in validator.validate(folder).items():
        found[path] = {tag.tag for errors in result.module_errors.values() for tag in errors}
        assert result.errors == sum(len(errors) for errors in result.module_errors.values())
    return found


@pytest.mark.parametrize("geometry", [PLACED, UNPLACED], ids=["placed", "unplaced"])
@pytest.mark.parametrize("fields", [FIELDS, {}], ids=["header", "bare"])
def test_dicom_has_the_attributes_of_its_class(images, tmp_path, geometry, fields):
    write_dicom(tmp_path / "s", images, series(geometry, fields), MODEL)
    found = validated(tmp_path / "s")
    assert len(found) == 3
    assert not set().union(*found.values())


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("ScanningSequence", None), ("Modality", ""), ("MRAcquisitionType", "4D"), ("DoseType", "REAL")],
)
def test_the_validator_sees_what_is_wrong(images, tmp_path, keyword, value):
    write_dicom(tmp_path / "s", images[:1], series(PLACED, {}), MODEL)
    path = tmp_path / "s" / "IM0001.dcm"
    ds = pydicom.dcmread(path)
    if value is None:
        delattr(ds, keyword)
    else:
        setattr(ds, keyword, value)
    ds.save_as(path)
    (tags,) = validated(tmp_path / "s").values()
    assert tags == {pydicom.datadict.tag_for_keyword(keyword)}
