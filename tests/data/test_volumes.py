"""Volumes: written and read back, structure checked, bad files named."""

import errno

import h5py
import numpy as np
import pytest

from scripts.data.header import make_header
from scripts.data.volumes import files_below, inspect_volume, read_slice, write_volume
from tests.conftest import CROP, MATRIX, tiny_slices, write_tiny_volume


@pytest.fixture
def volume_file(tmp_path):
    path = tmp_path / "scan.h5"
    write_tiny_volume(path, seed=1, slices=3, coils=2, patient_id="P1")
    return path


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def test_round_trip(volume_file):
    written = list(tiny_slices(np.random.default_rng(1), 3, 2, True))
    volume = inspect_volume(volume_file)
    assert volume.kspace_shape == (3, 2, *MATRIX)
    assert volume.target_size == CROP
    assert volume.crop_source == "header"
    assert volume.patient_id == "P1"
    assert volume.max_value == pytest.approx(max(target.max() for _, target in written))
    for index, (kspace, target) in enumerate(written):
        got_kspace, got_target = read_slice(volume, index)
        np.testing.assert_array_equal(got_kspace, kspace)
        np.testing.assert_array_equal(got_target, target)


def test_header_field_and_datalist_field_precedence(tmp_path):
    header = make_header(
        matrix=MATRIX, recon=CROP, spacing=(1, 1), slice_thickness=5, num_coils=2, systemModel="Scanner A"
    )
    path = tmp_path / "scan.h5"
    slices = tiny_slices(np.random.default_rng(0), 1, 2, True)
    write_volume(path, slices, num_slices=1, attributes={"patient_id": "from file"}, header=header)
    volume = inspect_volume(path, fields={"patient_id": "from datalist"})
    assert volume.fields["systemModel"] == "Scanner A"
    assert volume.patient_id == "from datalist"


def test_crop_comes_from_the_header_then_target_then_matrix(volume_file):
    edit(volume_file, lambda f: f.__delitem__("ismrmrd_header"))
    assert inspect_volume(volume_file).crop_source == "target"
    edit(volume_file, lambda f: f.__delitem__("reconstruction_rss"))
    edit(volume_file, lambda f: f.attrs.__delitem__("max"))
    volume = inspect_volume(volume_file)
    assert (volume.crop_source, volume.target_size) == ("matrix", MATRIX)


def test_header_larger_than_the_image_is_clipped(volume_file):
    header = make_header(matrix=MATRIX, recon=(320, 320), spacing=(1, 1), slice_thickness=5, num_coils=2)
    edit(volume_file, lambda f: (f.__delitem__("ismrmrd_header"), f.__setitem__("ismrmrd_header", header)))
    assert inspect_volume(volume_file).target_size == CROP


def test_missing_target_is_the_rss_of_the_kspace(volume_file):
    stored = [read_slice(inspect_volume(volume_file), i)[1] for i in range(3)]
    edit(volume_file, lambda f: f.__delitem__("reconstruction_rss"))
    computed = [read_slice(inspect_volume(volume_file), i)[1] for i in range(3)]
    np.testing.assert_allclose(computed, stored, rtol=1e-4, atol=1e-9)


def test_single_coil(tmp_path):
    path = tmp_path / "single.h5"
    kspace, target = next(tiny_slices(np.random.default_rng(0), 1, 1, True))
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace  # (1 slice, H, W)
        file["reconstruction_esc"] = target[None]
    volume = inspect_volume(path)
    assert volume.kspace_shape == (1, 1, *MATRIX)
    assert read_slice(volume, 0)[0].shape == (1, *MATRIX)
    assert volume.max_value == pytest.approx(float(target.max()))


def test_write_is_whole_or_nothing(tmp_path):
    def failing():
        yield from tiny_slices(np.random.default_rng(0), 1, 2, True)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_volume(tmp_path / "scan.h5", failing(), num_slices=2, attributes={})
    with pytest.raises(ValueError, match="expected 3 slices to write, found 1"):
        slices = tiny_slices(np.random.default_rng(0), 1, 2, True)
        write_volume(tmp_path / "scan.h5", slices, num_slices=3, attributes={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.__delitem__("kspace"), r"scan.h5: 'kspace': expected a data set of that name, found \['ismrmrd"),
        (lambda f: replace(f, np.zeros((3, 4), np.complex64)), "'kspace': expected .* found rank 2"),
        (lambda f: replace(f, np.zeros((3, 2, 32, 30), np.float32)), "'kspace': expected complex64, found float32"),
        (lambda f: replace(f, np.zeros((0, 2, 32, 30), np.complex64)), "expected at least one element on each axis"),
        (lambda f: replace(f, np.zeros((4, 2, 32, 30), np.complex64)), r"'reconstruction_rss': expected float \(4"),
        (lambda f: f.attrs.__setitem__("max", np.nan), "'max': expected a finite volume maximum above 0, found nan"),
        (lambda f: (f.__delitem__("ismrmrd_header"), f.__setitem__("ismrmrd_header", "<a")), "expected XML"),
        (lambda f: (undersample(f), f.__setitem__("mask", np.arange(30) % 3 == 0)), "already undersampled"),
    ],
)
def test_bad_structure_is_named(volume_file, change, message):
    edit(volume_file, change)
    with pytest.raises(ValueError, match=message):
        inspect_volume(volume_file)


def undersample(file):
    file["kspace"][...] = file["kspace"][...] * (np.arange(30) % 3 == 0)


def test_a_mask_beside_whole_kspace_is_no_undersampling(volume_file):
    """As in files that were masked by a program, not by the scanner."""
    before = read_slice(inspect_volume(volume_file), 1)
    edit(volume_file, lambda f: f.__setitem__("mask", np.arange(30) % 3 == 0))
    for found, expected in zip(read_slice(inspect_volume(volume_file), 1), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def replace(file, kspace):
    del file["kspace"]
    file["kspace"] = kspace


def test_missing_truncated_and_foreign_files(tmp_path, volume_file):
    with pytest.raises(FileNotFoundError, match="nowhere.h5: no such file"):
        inspect_volume(tmp_path / "nowhere.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(ValueError, match="text.h5: not a readable HDF5 file"):
        inspect_volume(tmp_path / "text.h5")
    whole = volume_file.read_bytes()
    volume_file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="scan.h5: not a readable HDF5 file .truncated"):
        inspect_volume(volume_file)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(volume_file, bad):
    edit(volume_file, lambda f: f["kspace"].__setitem__((1, 0, 5, 5), bad))
    volume = inspect_volume(volume_file)
    read_slice(volume, 0)
    with pytest.raises(ValueError, match="scan.h5: 'kspace', slice 1: expected finite values"):
        read_slice(volume, 1)


def test_files_that_cannot_be_locked_or_that_another_program_writes(volume_file, monkeypatch):
    volume, opened = inspect_volume(volume_file), h5py.File
    expected = read_slice(volume, 1)

    def locked(number):
        def file(path, mode, locking=None):
            if locking is None:
                raise OSError(number, "unable to lock file")
            return opened(path, mode, locking=locking)

        monkeypatch.setattr("h5py.File", file)

    for number in (errno.ENOLCK, errno.ENOSYS):
        locked(number)
        for found, value in zip(read_slice(volume, 1), expected, strict=True):
            np.testing.assert_array_equal(found, value)
    locked(errno.EAGAIN)
    with pytest.raises(
        ValueError, match=r"scan.h5: another program has the file open for writing.*HDF5_USE_FILE_LOCKING"
    ):
        read_slice(volume, 1)
    locked(errno.EACCES)
    with pytest.raises(PermissionError, match=r"scan.h5: expected a file to read"):
        read_slice(volume, 1)


def test_files_below_follows_links_once_and_takes_every_ending(tmp_path):
    (tmp_path / "set" / "batch0").mkdir(parents=True)
    (tmp_path / "disk").mkdir()
    for name in ("set/batch0/a.H5", "set/b.hdf", "set/._b.hdf", "set/.DS_Store", "set/notes.txt", "disk/c.hdf5"):
        (tmp_path / name).touch()
    (tmp_path / "set" / "batch1").symlink_to(tmp_path / "disk")
    (tmp_path / "set" / "batch2").symlink_to(tmp_path / "disk")  # the same again
    (tmp_path / "disk" / "round").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "gone.h5").symlink_to(tmp_path / "nowhere.h5")
    found = [path.relative_to(tmp_path / "set").as_posix() for path in files_below(tmp_path / "set")]
    assert found == ["b.hdf", "batch0/a.H5", "batch1/c.hdf5", "gone.h5"]
    with pytest.raises(FileNotFoundError, match=r"gone.h5: a link that leads nowhere"):
        inspect_volume(tmp_path / "set" / "gone.h5")


@pytest.mark.parametrize(
    ("shape", "slices", "refused"),
    [((8, 4), None, False), ((8, 4), 8, False), ((8, 4), 4, True), ((8, 12), None, True), ((4, 8), 4, False)],
)
def test_compressed_coils_are_no_swapped_axes(tmp_path, shape, slices, refused):
    """The header says 8 coils."""
    header = make_header(matrix=MATRIX, recon=CROP, spacing=(1, 1), slice_thickness=5, num_coils=8)
    limits = f"<slice><minimum>0</minimum><maximum>{(slices or 1) - 1}</maximum><center>0</center></slice>"
    if slices is not None:
        header = header.replace("<trajectory>", f"<encodingLimits>{limits}</encodingLimits><trajectory>")
    values = np.random.default_rng(0).normal(size=(*shape, *MATRIX)).astype(np.complex64)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"], file["ismrmrd_header"] = values, header
    if refused:
        with pytest.raises(ValueError, match="with 8 coils as in the header"):
            inspect_volume(tmp_path / "a.h5")
    else:
        assert inspect_volume(tmp_path / "a.h5").kspace_shape == (*shape, *MATRIX)
        np.testing.assert_array_equal(read_slice(inspect_volume(tmp_path / "a.h5"), 1)[0], values[1])
