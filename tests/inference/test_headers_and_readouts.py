"""Raw data as scanners and converters really write them: several encodings, measurements, oversampling, early stops.

Each image or k-space is compared with what NumPy makes of the array that the file was written from.
"""

import json

import h5py
import ismrmrd
import numpy as np
import pydicom
import pytest

from scripts.inference import open_raw
from tests.conftest import write_tiny_volume
from tests.inference.raw_files import make_kspace
from tests.inference.test_reconstruct import rss, run, volume

H, W = 48, 40
COLUMNS = [1, 4, 7, 10, 13, 16, *range(18, 23), 25, 28, 31, 34, 37, 39]
CALIBRATION, LAST, NAVIGATION = 20, 8, 23


def space(name, x, y, fov_x=None):
    return (
        f"<{name}><matrixSize><x>{x}</x><y>{y}</y><z>1</z></matrixSize><fieldOfView_mm><x>{fov_x or x}</x><y>{y}</y>"
        f"<z>5</z></fieldOfView_mm></{name}>"
    )


def limits(counter, maximum, centre):
    return f"<{counter}><minimum>0</minimum><maximum>{maximum}</maximum><center>{centre}</center></{counter}>"


def encoding(encoded=(H, W), recon=(H, W), centre=W // 2, trajectory="cartesian", more="", slices=None, fov_x=None):
    """One ``encoding``; what is None is left out."""
    counters = "" if centre is None else limits("kspace_encoding_step_1", 2 * centre - 1, centre)
    counters += "" if slices is None else limits("slice", slices - 1, 0)
    return (
        f"<encoding>{space('encodedSpace', *encoded, fov_x)}{space('reconSpace', *recon) if recon else ''}"
        f"<encodingLimits>{counters}</encodingLimits><trajectory>{trajectory}</trajectory>{more}</encoding>"
    )


def header(*encodings, before="", after=""):
    return f"<ismrmrdHeader>{before}{''.join(encodings or [encoding()])}{after}</ismrmrdHeader>"


def readouts(kspace, columns=COLUMNS, flags=(), space=0, centre=None, **counters):
    """Of k-space (slices, C, H, W): one readout for each slice and column."""
    for index, slice_ in enumerate(kspace):
        for column in columns:
            line = ismrmrd.Acquisition.from_array(np.ascontiguousarray(slice_[:, :, column]))
            line.center_sample = slice_.shape[1] // 2 if centre is None else centre
            line.idx.kspace_encode_step_1, line.idx.slice, line.encoding_space_ref = column, index, space
            line.position[:], line.read_dir[:] = (0, 0, 5.0 * index), (1, 0, 0)
            line.phase_dir[:], line.slice_dir[:] = (0, 1, 0), (0, 0, 1)
            for flag in flags:
                line.set_flag(flag)
            for name, value in counters.items():
                setattr(line.idx, name, value)
            yield line


def write(path, lines, text=None, group="dataset"):
    dataset = ismrmrd.Dataset(str(path), group, create_if_needed=True)
    dataset.write_xml_header((text or header()).encode())
    for line in lines:
        dataset.append_acquisition(line)
    dataset.close()
    return path


def measured(kspace, columns=COLUMNS):
    """The k-space with zeros where nothing was measured."""
    return kspace * np.isin(np.arange(kspace.shape[-1]), columns)


@pytest.fixture
def kspace():
    return make_kspace(slices=2, coils=3, height=H, width=W)


SECOND = encoding(encoded=(H, 20), recon=(H, 20), centre=5, slices=9, more="<parallelImaging><calibrationMode>separate"
                  "</calibrationMode></parallelImaging>")  # fmt: skip


@pytest.mark.parametrize("first", [{"centre": None}, {"recon": None}, {}], ids=["limits", "reconSpace", "calibration"])
def test_what_an_encoding_does_not_state_is_not_taken_from_the_next(tmp_path, kspace, first):
    lines = [*readouts(kspace, [c for c in COLUMNS if not 18 <= c < 23])]
    lines += readouts(kspace, range(18, 23), flags=[CALIBRATION])
    (raw,) = open_raw(write(tmp_path / "a.h5", lines, header(encoding(**first), SECOND)))
    assert raw.crop == (H, W)
    assert not raw.slice_notes
    assert len(raw.notes) == 1
    for index in range(2):
        np.testing.assert_array_equal(raw.read(index), measured(kspace)[index])


def test_fields_are_those_of_the_measurement_itself(tmp_path, kspace):
    other = (
        "<measurementInformation><measurementDependency><measurementID>other</measurementID></measurementDependency>"
    )
    other += "<patientPosition>HFS</patientPosition></measurementInformation>"
    second = encoding(more="<echoTrainLength>7</echoTrainLength>")
    (raw,) = open_raw(write(tmp_path / "a.h5", readouts(kspace), header(encoding(), second, before=other)))
    assert raw.fields["patientPosition"] == "HFS"
    assert not {"measurementID", "echoTrainLength"} & set(raw.fields)


def test_the_image_is_that_of_its_encoding_and_a_reference_scan_is_named(tmp_path, kspace):
    small = make_kspace(slices=2, coils=3, height=H, width=20, seed=1)
    lines = [*readouts(small, range(20), flags=[CALIBRATION]), *readouts(kspace, space=1)]
    text = header(encoding(encoded=(H, 20), recon=(H, 20), centre=10), encoding())
    (raw,) = open_raw(write(tmp_path / "a.h5", lines, text))
    np.testing.assert_array_equal(raw.read(1), measured(kspace)[1])
    assert "left out: 40 calibration readouts of encoding 0" in raw.notes


def test_two_encodings_are_two_series(tmp_path, kspace):
    small = make_kspace(slices=1, coils=2, height=H, width=20, seed=1)
    lines = [*readouts(kspace), *readouts(small, range(20), space=1)]
    text = header(encoding(), encoding(encoded=(H, 20), recon=(H, 20), centre=10))
    first, second = open_raw(write(tmp_path / "a.h5", lines, text))
    assert [raw.suffix for raw in (first, second)] == ["_encoding-0", "_encoding-1"]
    assert [raw.number for raw in (first, second)] == [1, 2]
    np.testing.assert_array_equal(first.read(1), measured(kspace)[1])
    np.testing.assert_array_equal(second.read(0), small[0])


def test_an_encoding_that_cannot_be_read_is_named_beside_one_that_can(tmp_path, kspace):
    lines = [*readouts(kspace), *readouts(kspace[:1], space=1), *readouts(kspace[:1], [3], space=2)]
    text = header(encoding(), encoding(trajectory="spiral"))
    (raw,) = open_raw(write(tmp_path / "a.h5", lines, text))
    np.testing.assert_array_equal(raw.read(0), measured(kspace)[0])
    said = "; ".join(raw.notes)
    assert "17 readouts of encoding 1: 'trajectory': expected cartesian, found spiral" in said
    assert "1 readouts of encoding 2: 'encoding_space_ref': expected one of 2 encodings of the header, found 2" in said


def test_every_measurement_of_a_file_is_a_series(tmp_path, kspace):
    other = make_kspace(slices=1, coils=2, height=H, width=W, seed=3)
    path = write(tmp_path / "a.h5", readouts(kspace))
    write(path, readouts(other), group="second")
    noise = ismrmrd.Acquisition.from_array(np.ones((3, 8), np.complex64))
    noise.set_flag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
    write(path, [noise], group="adjustment")
    first, second = open_raw(path)
    assert [(raw.suffix, raw.number) for raw in (first, second)] == [("_dataset", 1), ("_second", 2)]
    np.testing.assert_array_equal(first.read(1), measured(kspace)[1])
    np.testing.assert_array_equal(second.read(0), measured(other)[0])
    assert "left out: group 'adjustment': readouts: expected image data, found none among 1 readouts" in first.notes
    assert first.scan_id != second.scan_id


def test_readouts_in_a_fastmri_file_are_named(tmp_path, kspace):
    write_tiny_volume(tmp_path / "a.h5", 0)
    write(tmp_path / "a.h5", readouts(kspace))
    (raw,) = open_raw(tmp_path / "a.h5")
    assert raw.notes == ("left out: readouts in dataset",)


def test_navigators_are_counted(tmp_path, kspace):
    lines = [*readouts(kspace), *readouts(kspace[:1], [20], flags=[NAVIGATION])]
    (raw,) = open_raw(write(tmp_path / "a.h5", lines))
    assert "left out: 1 navigation readouts" in raw.notes
    np.testing.assert_array_equal(raw.read(0), measured(kspace)[0])


def test_a_slice_that_is_not_whole_says_so_in_every_format(tmp_path, kspace):
    lines = [*readouts(kspace[:1]), *readouts(kspace, COLUMNS[:12])]
    lines = lines[:17] + [line for line in lines[17:] if line.idx.slice == 1]  # slice 1 stops at 12 of 17 columns
    write(tmp_path / "a.h5", lines)
    run(tmp_path / "a.h5", tmp_path / "out", formats=("nifti", "dicom"))
    images = volume(tmp_path / "out" / "a.nii.gz")
    np.testing.assert_allclose(images[0], rss(measured(kspace)[0]), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(images[1], rss(measured(kspace, COLUMNS[:12])[1]), rtol=1e-4, atol=1e-9)
    said = json.loads((tmp_path / "out" / "a.json").read_text())
    expected = "incomplete: 12 of 17 columns were measured; partial Fourier: 1 columns before and 14 after"
    assert list(said["slices"]) == ["1"]
    assert said["slices"]["1"].startswith(expected)
    first, second = (pydicom.dcmread(tmp_path / "out" / "a_dicom" / f"IM000{n}.dcm") for n in (1, 2))
    assert "ImageComments" not in first
    assert second.ImageComments.startswith(expected)


def test_a_repetition_that_stopped_early_is_refused_and_the_others_are_not(tmp_path, kspace):
    lines = [*readouts(kspace, repetition=0), *readouts(kspace, COLUMNS[8:11], repetition=1)]
    write(tmp_path / "a.h5", lines)
    with pytest.raises(RuntimeError, match="slice 0: expected 17 measured columns, at least 50% of them, found 3"):
        run(tmp_path / "a.h5", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a_repetition-0.json",
        "a_repetition-0.nii.gz",
    ]
    with pytest.raises(ValueError, match=r"a.h5: slice 0: expected 17"):
        open_raw(tmp_path / "a.h5")[1].read(1)


def test_a_scan_that_stopped_before_the_centre_is_refused(tmp_path, kspace):
    (raw,) = open_raw(write(tmp_path / "a.h5", readouts(kspace, COLUMNS[:3])))
    with pytest.raises(ValueError, match="around the centre of k-space, 20, found 1 to 7"):
        raw.read(0)


def test_a_repetition_that_is_sampled_less_on_purpose_is_whole(tmp_path, kspace):
    """A fully sampled repetition first, as for calibration, then 4-fold acceleration; scanners flag the last line."""
    few = range(0, W, 4)
    lines = [*readouts(kspace, range(W - 1)), *readouts(kspace, [W - 1], flags=[LAST])]
    lines += [*readouts(kspace, few[:-1], repetition=1), *readouts(kspace, few[-1:], repetition=1, flags=[LAST])]
    full, fourth = open_raw(write(tmp_path / "a.h5", lines))
    assert not full.slice_notes
    assert not fourth.slice_notes
    np.testing.assert_array_equal(fourth.read(1), measured(kspace, few)[1])


def test_slices_that_never_came_are_counted(tmp_path, kspace):
    (raw,) = open_raw(write(tmp_path / "a.h5", readouts(kspace), header(encoding(slices=5))))
    assert "incomplete: 2 of 5 slices were measured" in raw.notes


@pytest.mark.parametrize(
    ("stated", "recon", "fov_x", "note"),
    [
        ((2 * H, W), (H, W), 2 * H, "oversampling was removed before: 48 samples, 96 in the header"),
        ((H // 2, W), (H // 2, W), None, "readouts are oversampled 2-fold"),
        ((H // 3, W), (H // 3, W), None, "readouts are oversampled 3-fold"),
    ],
)
def test_oversampling_is_that_of_the_samples(tmp_path, kspace, stated, recon, fov_x, note):
    """The image is the centre of the one that all samples make, whatever matrix the header states."""
    write(tmp_path / "a.h5", readouts(kspace), header(encoding(stated, recon, fov_x=fov_x)))
    (raw,) = open_raw(tmp_path / "a.h5")
    assert note in "; ".join(raw.notes)
    assert "asymmetric" not in "; ".join(raw.notes)
    run(tmp_path / "a.h5", tmp_path / "out")
    top = (H - recon[0]) // 2
    expected = rss(measured(kspace))[:, top : top + recon[0]]
    np.testing.assert_allclose(volume(tmp_path / "out" / "a.nii.gz"), expected, rtol=1e-3, atol=1e-8)
    assert raw.geometry.spacing == (1.0, 1.0)


def test_an_asymmetric_echo_without_oversampling(tmp_path, kspace):
    """43 of 48 samples, of 96 in the header: the first five are missing."""
    lines = readouts(kspace[:, :, 5:], centre=H // 2 - 5)
    text = header(encoding((2 * H, W), (H, W), fov_x=2 * H))
    (raw,) = open_raw(write(tmp_path / "a.h5", lines, text))
    expected = measured(kspace)[0]
    expected[:, :5] = 0
    np.testing.assert_array_equal(raw.read(0), expected)
    assert "asymmetric echo: 5 samples before and 0 after the measured ones are zero" in raw.notes


def test_a_symmetric_gap_is_not_called_an_asymmetric_echo(tmp_path, kspace):
    lines = readouts(kspace[:, :, 8:-8])
    (raw,) = open_raw(write(tmp_path / "a.h5", lines))
    assert "zero-filled readout: 8 samples before and 8 after the measured ones are zero" in raw.notes
    expected = measured(kspace)
    expected[:, :, :8] = expected[:, :, -8:] = 0
    for index in range(2):
        np.testing.assert_array_equal(raw.read(index), expected[index])


@pytest.mark.parametrize("name", ["linked/a.h5", "A.H5", "b.hdf5", "smith,john#2.h5", "20240131.h5", "é 1.hdf"])
def test_a_file_is_reconstructed_wherever_it_lies_and_whatever_its_name(tmp_path, kspace, name):
    (tmp_path / "disk").mkdir()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "disk")
    with h5py.File(tmp_path / "set" / name, "w") as file:
        file["kspace"], file["mask"] = measured(kspace), np.isin(np.arange(W), COLUMNS)
    output = tmp_path / "out#2,3"
    (written,) = run(tmp_path / "set", output)
    assert written == output / f"{name.rpartition('.')[0]}.nii.gz"
    np.testing.assert_allclose(volume(written), rss(measured(kspace)), rtol=1e-4, atol=1e-9)


STORED = {
    "scalar": lambda text: text,
    "array of one": lambda text: np.array([text], dtype=object),
    "closing null": lambda text: np.bytes_(text.encode() + b"\n\0"),
    "byte order mark": lambda text: "\ufeff" + text,
    "two dimensions": lambda text: np.array([[text]], dtype=object),
}


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("kind", ["ISMRMRD", "fastMRI"])
def test_a_header_is_read_however_it_is_stored(tmp_path, kspace, kind, name):
    path = write(tmp_path / "a.h5", readouts(kspace))
    value = STORED[name](header(encoding((H, W), (H, W - 8))).replace("<x>48</x>", "<x>48.0</x>"))
    with h5py.File(path, "a") as file:
        place = "dataset/xml"
        if kind == "fastMRI":
            file["kspace"], place = measured(kspace), "ismrmrd_header"
        if place in file:
            del file[place]
        file[place] = value
    raw = open_raw(path)[0]
    assert raw.crop == (H, W - 8)
    np.testing.assert_array_equal(raw.read(1), measured(kspace)[1])


def test_each_slice_of_a_fastmri_file_is_judged(tmp_path):
    kspace = measured(make_kspace(slices=3, coils=2, height=H, width=W))
    kspace[1, :, :, COLUMNS[12:]] = 0
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["kspace"], file["mask"] = kspace, np.isin(np.arange(W), COLUMNS)
    (raw,) = open_raw(path)
    assert raw.slice_notes == {1: "incomplete: 12 of 17 columns were measured"}
    np.testing.assert_array_equal(raw.read(1), kspace[1])
    with h5py.File(path, "a") as file:
        file["kspace"][2] = kspace[2] * np.isin(np.arange(W), COLUMNS[8:11])
    with pytest.raises(ValueError, match=r"a.h5: slice 2: expected 17 measured columns, at least 50% .*, found 3"):
        open_raw(path)[0].read(0)


def test_each_contrast_has_its_own_echo_time(tmp_path, kspace):
    times = "<sequenceParameters><TR>500</TR><TE>10</TE><TE>80</TE></sequenceParameters>"
    lines = [*readouts(kspace[:1]), *readouts(kspace[1:], contrast=1)]
    write(tmp_path / "a.h5", lines, header(after=times))
    run(tmp_path / "a.h5", tmp_path / "out", formats=("dicom",))
    found = [pydicom.dcmread(tmp_path / "out" / f"a_contrast-{n}_dicom" / "IM0001.dcm") for n in (0, 1)]
    assert [(float(ds.RepetitionTime), float(ds.EchoTime)) for ds in found] == [(500, 10), (500, 80)]
