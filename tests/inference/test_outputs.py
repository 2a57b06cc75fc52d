"""NIfTI and DICOM: values, geometry, identity."""

import shutil
import subprocess

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import MRImageStorage, SecondaryCaptureImageStorage

from scripts.inference.dicom import rescale_slope, write_dicom
from scripts.inference.geometry import Geometry
from scripts.inference.nifti import write_nifti

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
FIELDS = {
    "studyInstanceUID": "1.2.826.0.1.9",
    "studyDate": "2024-01-31",
    "studyTime": "10:11:12",
    "systemVendor": "TEST",
    "patientPosition": "HFS",
    "TR": "500",
    "TE": "20",
}


@pytest.fixture
def images():
    return (np.random.default_rng(0).random((3, 20, 16)) * 3e-4).astype(np.float32)


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
    write_dicom(tmp_path / "s", images, geometry, FIELDS, "Model", "1.0")
    slope = rescale_slope(float(images.max()))
    for image, ds in zip(images, read_series(tmp_path / "s"), strict=True):
        assert len(ds["RescaleSlope"].value.original_string) <= 16
        restored = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        assert np.abs(restored - image).max() <= slope / 2 * (1 + 1e-6)
    assert slope == pytest.approx(images.max() / 65535, rel=1e-8)


def test_dicom_of_zeros(tmp_path):
    write_dicom(tmp_path / "s", np.zeros((1, 4, 4), np.float32), UNPLACED, {}, "Model", "1.0")
    assert not read_series(tmp_path / "s")[0].pixel_array.any()


def test_dicom_identity(images, tmp_path):
    write_dicom(tmp_path / "s", images, PLACED, FIELDS, "Model", "1.0")
    series = read_series(tmp_path / "s")
    assert {ds.StudyInstanceUID for ds in series} == {"1.2.826.0.1.9"}
    assert len({ds.SeriesInstanceUID for ds in series}) == len({ds.FrameOfReferenceUID for ds in series}) == 1
    assert len({ds.SOPInstanceUID for ds in series}) == len(series)
    first = series[0]
    assert all(element.value.is_valid for element in first if element.VR == "UI")
    assert first.file_meta.MediaStorageSOPClassUID == first.SOPClassUID == MRImageStorage
    assert first.SeriesDescription == "Model 1.0"
    assert first.ImageType[0] == "DERIVED"
    assert (first.PatientName, first.PatientID, first.StudyDate) == ("", "", "20240131")
    assert [float(v) for v in first.PixelSpacing] == [0.5, 1.25]
    assert [float(v) for v in series[2].ImagePositionPatient] == [-6, 12, 10]
    assert [float(v) for v in first.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]
    assert (first.RepetitionTime, first.EchoTime, first.SpacingBetweenSlices) == (500, 20, 5)


def test_dicom_without_position_is_secondary_capture(images, tmp_path):
    write_dicom(tmp_path / "s", images, UNPLACED, {}, "Model", "1.0")
    first = read_series(tmp_path / "s")[0]
    assert first.SOPClassUID == SecondaryCaptureImageStorage
    assert "ImagePositionPatient" not in first
    assert [float(v) for v in first.NominalScannedPixelSpacing] == [0.5, 1.25]


def test_a_series_is_replaced_whole(images, tmp_path):
    write_dicom(tmp_path / "s", images, UNPLACED, {}, "Model", "1.0")
    write_dicom(tmp_path / "s", images[:1], UNPLACED, {}, "Model", "1.0")
    assert [path.name for path in tmp_path.rglob("*")] == ["s", "IM0001.dcm"]
    with pytest.raises(ValueError, match="could not broadcast|NaN|shape|unpack"):
        write_dicom(tmp_path / "t", np.zeros((1, 4, 4, 4)), UNPLACED, {}, "Model", "1.0")
    assert not (tmp_path / "t").exists()


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (Debian package dicom3tools)")
@pytest.mark.parametrize("geometry", [PLACED, UNPLACED], ids=["placed", "unplaced"])
@pytest.mark.parametrize("fields", [FIELDS, {}], ids=["header", "bare"])
def test_dicom_is_valid(images, tmp_path, geometry, fields):
    write_dicom(tmp_path / "s", images, geometry, fields, "Model", "1.0")
    for path in (tmp_path / "s").iterdir():
        report = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False).stderr
        assert not [line for line in report.splitlines() if line.startswith(("Error", "Abort"))], report
