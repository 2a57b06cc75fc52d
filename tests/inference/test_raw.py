"""Raw data files: what is read from them and what is refused."""

import tracemalloc

import h5py
import numpy as np
import pytest
import torch

from scripts.data.slices import SliceDataset, Undersample
from scripts.data.volumes import inspect_volume, read_slice
from scripts.inference import FastMRIRaw, IsmrmrdRaw, KspaceSlices, find_inputs, open_raw
from scripts.kspace.masks import EquispacedFractionMask
from scripts.networks import VarNet
from tests.conftest import CROP, MATRIX, write_tiny_volume
from tests.inference.raw_files import make_kspace, write_ismrmrd

COLUMNS = [0, 4, 8, 12, 14, 15, 16, 17, 20, 24, 28]


@pytest.fixture
def fastmri(tmp_path):
    write_tiny_volume(tmp_path / "scan.h5", 0, patient_id="P1")
    return tmp_path / "scan.h5"


def edit(path, **datasets):
    with h5py.File(path, "a") as file:
        for name, value in datasets.items():
            if name in file:
                del file[name]
            if value is not None:
                file[name] = value


def test_fastmri_equals_the_training_reader(fastmri):
    raw, volume = open_raw(fastmri)[0], inspect_volume(fastmri)
    assert isinstance(raw, FastMRIRaw)
    assert (raw.shape, raw.crop) == (volume.kspace_shape, volume.target_size)
    np.testing.assert_array_equal(raw.read(1), read_slice(volume, 1)[0])
    assert (raw.geometry.spacing, raw.geometry.slice_thickness) == ((1.0, 1.0), 5.0)
    assert not raw.geometry.oriented
    assert raw.fields["patient_id"] == "P1"


def test_fastmri_without_reference_and_header(fastmri):
    edit(fastmri, reconstruction_rss=None, ismrmrd_header=None)
    raw = open_raw(fastmri)[0]
    assert raw.crop == MATRIX
    assert raw.geometry.spacing is None


def test_mask_is_read_or_inferred(fastmri):
    stated = np.zeros(MATRIX[1], bool)
    stated[[0, 14, 15, 16]] = True
    with h5py.File(fastmri, "a") as file:
        file["kspace"][...] = file["kspace"][...] * (stated | (np.arange(MATRIX[1]) == 20))
    slices = KspaceSlices()
    assert len(slices) == 0
    slices.open(fastmri)
    assert slices[0]["mask"].flatten().nonzero().flatten().tolist() == [0, 14, 15, 16, 20]
    edit(fastmri, mask=stated)
    slices.open(fastmri)
    item = slices[1]
    np.testing.assert_array_equal(item["mask"].flatten(), stated)
    assert not item["masked_kspace"][:, :, 20].any()


def test_retrospective_mask_is_that_of_the_evaluation(fastmri):
    mask = EquispacedFractionMask(4, 0.12)
    slices = KspaceSlices(mask)
    slices.open(fastmri)
    expected = SliceDataset([inspect_volume(fastmri)], Undersample(mask, 0))[0]
    item = slices[0]
    for key in ("masked_kspace", "mask"):
        assert torch.equal(item[key], expected[key])


def test_undersampled_files_are_not_masked_again(fastmri):
    edit(fastmri, mask=np.arange(MATRIX[1]) % 2 == 0)
    slices = KspaceSlices(EquispacedFractionMask(4, 0.12))
    slices.open(fastmri)
    with pytest.raises(ValueError, match=r"scan.h5: 'undersample': expected fully sampled k-space .* slice 0"):
        slices[0]


def test_ismrmrd_is_sorted_into_slices(tmp_path):
    kspace = make_kspace()
    write_ismrmrd(tmp_path / "scan.h5", kspace)
    raw = open_raw(tmp_path / "scan.h5", remove_oversampling=False)[0]
    assert isinstance(raw, IsmrmrdRaw)
    assert raw.shape == kspace.shape
    assert raw.crop == (32, 32)
    for index, slice_ in enumerate(kspace):
        np.testing.assert_array_equal(raw.read(index), slice_)
    assert not raw.undersampled(raw.read(0))
    assert raw.fields["systemVendor"] == "TEST"


def test_ismrmrd_geometry(tmp_path):
    write_ismrmrd(tmp_path / "scan.h5", make_kspace())
    geometry = open_raw(tmp_path / "scan.h5")[0].geometry
    assert (geometry.spacing, geometry.slice_thickness) == ((0.5, 1.0), 5.0)
    # the acquisition's centre is pixel (16, 16) of the cropped image
    np.testing.assert_allclose(geometry.positions, [[10 - 16, 20 - 8, z] for z in (0, 6, 12)])
    affine = geometry.affine()
    np.testing.assert_allclose(affine @ [16, 16, 1, 1], [-10, -20, 6, 1])
    np.testing.assert_allclose(affine[:3, :3], [[-1, 0, 0], [0, -0.5, 0], [0, 0, 6]])


def test_ismrmrd_undersampled_averaged_asymmetric(tmp_path):
    kspace = make_kspace()
    path = tmp_path / "scan.h5"
    write_ismrmrd(path, kspace, columns=COLUMNS + COLUMNS[:3], skip=10)
    raw = open_raw(path, remove_oversampling=False)[0]
    expected = np.zeros_like(kspace[2])
    expected[:, 10:, COLUMNS] = kspace[2][:, 10:, COLUMNS]
    np.testing.assert_allclose(raw.read(2), expected, rtol=1e-6)
    assert raw.undersampled(raw.read(2))
    assert "asymmetric echo: 10 samples before and 0 after the measured ones are zero" in raw.notes


def test_ismrmrd_slices_follow_their_positions(tmp_path):
    kspace = make_kspace()
    positions = {0: 12.0, 1: 0.0, 2: 6.0}

    def change(readout):
        readout.position[2] = positions[readout.idx.slice]

    write_ismrmrd(tmp_path / "scan.h5", kspace, change=change)
    raw = open_raw(tmp_path / "scan.h5", remove_oversampling=False)[0]
    np.testing.assert_array_equal(raw.read(0), kspace[1])
    np.testing.assert_array_equal(raw.read(2), kspace[0])


def test_ismrmrd_without_directions_has_no_position(tmp_path):
    def change(readout):
        readout.read_dir[:] = 0, 0, 0

    write_ismrmrd(tmp_path / "scan.h5", make_kspace(), change=change)
    geometry = open_raw(tmp_path / "scan.h5")[0].geometry
    assert geometry.positions is None
    assert geometry.spacing == (0.5, 1.0)


def test_reading_holds_one_slice(tmp_path):
    kspace = make_kspace(slices=12, width=24)
    write_ismrmrd(tmp_path / "scan.h5", kspace)
    raw = open_raw(tmp_path / "scan.h5")[0]
    raw.read(0)
    tracemalloc.start()
    for index in range(raw.num_slices):
        raw.read(index)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * kspace[0].nbytes


def far_centre(readout):
    readout.center_sample = 60


def second_encoding(readout):
    readout.idx.kspace_encode_step_2 = readout.idx.slice % 2


def far_line(readout):
    readout.idx.kspace_encode_step_1 += 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trajectory": "radial"}, "scan.h5: 'trajectory': expected cartesian, found radial"),
        ({"trajectory": "spiral"}, "scan.h5: 'trajectory': expected cartesian, found spiral"),
        ({"change": second_encoding}, r"scan.h5: 'kspace_encode_step_2': expected 0 \(2-D slices\), found 1"),
        ({"change": far_line}, "scan.h5: 'kspace_encode_step_1': expected columns 0 to 31, found 5 to 36"),
        ({"change": far_centre}, "scan.h5: readout 2: 'center_sample': 64 samples centred at 60 do not fit"),
        ({"columns": []}, "scan.h5: readouts: expected image data, found none among 1 readouts"),
    ],
)
def test_ismrmrd_that_cannot_be_read(tmp_path, settings, message):
    write_ismrmrd(tmp_path / "scan.h5", make_kspace(), **settings)
    with pytest.raises(ValueError, match=message):
        open_raw(tmp_path / "scan.h5")[0].read(0)


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"kspace": np.zeros((2, 2), np.complex64)}, r"scan.h5: 'kspace': expected .*found rank 2 \(2, 2\)"),
        ({"kspace": np.zeros((2, 1, 4, 4))}, "found float64"),
        ({"kspace": None}, "scan.h5: expected fastMRI's data set 'kspace' or an ISMRMRD group"),
        ({"kspace": np.full((1, 1, 32, 32), np.nan, np.complex64)}, "scan.h5: k-space, slice 0: expected finite"),
        ({"mask": np.ones(7)}, r"scan.h5: 'mask': expected 30 columns, some of them measured; found \(7,\)"),
        ({"ismrmrd_header": "<a"}, "scan.h5: 'ismrmrd_header': expected XML"),
    ],
)
def test_fastmri_that_cannot_be_read(fastmri, datasets, message):
    edit(fastmri, **datasets)
    with pytest.raises(ValueError, match=message):
        open_raw(fastmri)[0].read(0)


def test_too_small_for_the_network(fastmri):
    network = VarNet(num_cascades=1, sens_chans=1, sens_pools=6, chans=1, pools=1)
    with pytest.raises(ValueError, match="scan.h5: image of 32 x 30 pixels is too small"):
        KspaceSlices(network=network).open(fastmri)


def test_inputs(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: 'dataset_dir'"):
        find_inputs(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"expected files .h5, .hdf5, .hdf, .mrd, .ismrmrd, found none"):
        find_inputs(tmp_path)
    (tmp_path / "a").mkdir()
    for name in ("x.h5", "a/x.h5", "notes.txt"):
        (tmp_path / name).touch()
    assert list(find_inputs(tmp_path)) == ["a/x", "x"]
    assert list(find_inputs(str(tmp_path / "x.h5"))) == ["x"]
    with pytest.raises(ValueError, match="both would be written as x"):
        find_inputs([tmp_path / "x.h5", tmp_path / "a/x.h5"])
    assert CROP < MATRIX
