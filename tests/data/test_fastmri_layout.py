"""Files built to fastMRI's published layout: zero-filled columns, single-coil references, masks of the evaluation."""

import json
import shutil

import h5py
import numpy as np
import pytest
import torch

from scripts.data import EquispacedFractionMask, SliceDataset, Undersample, inspect_volume, read_slice
from scripts.data.datalist import load_datalist
from scripts.inference import KspaceSlices, open_raw
from tests.conftest import kspace_of

HEADER = """<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>32</x><y>30</y><z>1</z></matrixSize></encodedSpace>
<reconSpace><matrixSize><x>28</x><y>28</y><z>1</z></matrixSize></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{maximum}</maximum><center>{center}</center>
</kspace_encoding_step_1></encodingLimits></encoding></ismrmrdHeader>"""
ACQUIRED = slice(3, 27)  # of 30 columns: centre 12 at column 15, 24 of them
MASK = EquispacedFractionMask(4, 0.12)


def images(coils: int) -> np.ndarray:
    """(2 slices, coils, 32, 30) complex."""
    rng = np.random.default_rng(0)
    return 1e-3 * (rng.normal(size=(2, coils, 32, 30)) + 1j * rng.normal(size=(2, coils, 32, 30)))


def write_fastmri(path, kspace, **datasets):
    """As in fastMRI: the k-space is zero outside the acquired columns, the header states which they are."""
    kspace = kspace * np.isin(np.arange(30), np.arange(30)[ACQUIRED])
    path.parent.mkdir(exist_ok=True, parents=True)
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace.astype(np.complex64)
        file["ismrmrd_header"] = HEADER.format(maximum=23, center=12)
        for name, value in datasets.items():
            file[name] = value
    return path


@pytest.fixture
def padded(tmp_path):
    return write_fastmri(tmp_path / "multicoil_val" / "file1.h5", kspace_of(images(2)))


def test_zero_filled_columns_are_sampled_nowhere(padded):
    volume, raw = inspect_volume(padded), open_raw(padded)[0]
    assert volume.acquired == raw.acquired == (3, 27)
    outside = np.ones(30, bool)
    outside[ACQUIRED] = False
    for mask in (EquispacedFractionMask(1.5, 0.12), EquispacedFractionMask(2, 0.12)):
        for seed in (None, 0):  # training, evaluation
            for item in SliceDataset([volume], Undersample(mask, seed)):
                assert not item["mask"].flatten()[outside].any()
                assert item["mask"].any()
        slices = KspaceSlices(mask)
        slices.open(padded)
        assert not slices[0]["mask"].flatten()[outside].any()


def test_a_stated_mask_that_covers_zero_filled_columns_is_cleared_there(padded):
    with h5py.File(padded, "a") as file:
        file["mask"] = np.ones(30, np.float32)
    slices = KspaceSlices()
    slices.open(padded)
    assert slices[0]["mask"].flatten().nonzero().flatten().tolist() == list(range(3, 27))
    assert not slices.raw.undersampled(slices.raw.read(0))


def test_limits_that_leave_no_column_are_refused(tmp_path):
    path = write_fastmri(tmp_path / "scan.h5", kspace_of(images(1)))
    with h5py.File(path, "a") as file:
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = HEADER.format(maximum=3, center=400)
    for read in (inspect_volume, open_raw):
        with pytest.raises(ValueError, match=r"scan.h5: 'ismrmrd_header': .*limits within 30 columns, found maximum 3"):
            read(path)


def test_single_coil_files_are_measured_against_their_own_reference(tmp_path):
    """fastMRI's single-coil files hold both images; ``max`` and ``norm`` are those of ``reconstruction_esc``."""
    emulated = np.abs(images(1))[:, 0, :28, :28].astype(np.float32)
    path = write_fastmri(
        tmp_path / "singlecoil_val" / "file1.h5",
        kspace_of(images(1))[:, 0],
        reconstruction_rss=2 * emulated,
        reconstruction_esc=emulated,
    )
    with h5py.File(path, "a") as file:
        file.attrs.update(max=float(emulated.max()), norm=float(np.linalg.norm(emulated)), acquisition="CORPD_FBK")
    volume = inspect_volume(path)
    assert volume.target_key == "reconstruction_esc"
    targets = [read_slice(volume, index)[1] for index in range(2)]
    np.testing.assert_array_equal(targets, emulated)
    assert np.max(targets) <= volume.max_value
    assert SliceDataset([volume])[0]["max_value"] == torch.tensor(volume.max_value)


def test_multi_coil_files_keep_the_root_sum_of_squares(tmp_path):
    other = np.ones((2, 28, 28), np.float32)
    path = write_fastmri(
        tmp_path / "a.h5", kspace_of(images(2)), reconstruction_rss=other, reconstruction_esc=2 * other
    )
    assert inspect_volume(path).target_key == "reconstruction_rss"


def test_evaluation_and_inference_draw_the_same_masks_wherever_the_datalist_lies(padded, tmp_path):
    sought = []
    for datalist, entry in (
        (tmp_path / "datalist.json", "multicoil_val/file1.h5"),
        (padded.parent / "datalist.json", "file1.h5"),
        (tmp_path / "study" / "lists" / "datalist.json", "../../multicoil_val/file1.h5"),
    ):
        datalist.parent.mkdir(parents=True, exist_ok=True)
        datalist.write_text(json.dumps({"test": [{"kspace": entry}]}))
        dataset = SliceDataset(load_datalist(datalist)["test"], Undersample(MASK, seed=0))
        sought.append(dataset[1]["mask"])
    slices = KspaceSlices(MASK)
    for file in (padded, shutil.copytree(padded.parent, tmp_path / "elsewhere" / "multicoil_val") / "file1.h5"):
        slices.open(file)
        sought.append(slices[1]["mask"])
    assert all(torch.equal(mask, sought[0]) for mask in sought)


def test_masks_of_the_built_in_phantom_are_those_of_its_published_table():
    """Their seed is CRC-32 of "0:test/brain-0001.h5": the demo table was made with these masks."""
    undersample = Undersample(MASK, seed=0)
    assert undersample.draw("/somewhere/phantom-0123456789/test/brain-0001.h5") == 2038843993
