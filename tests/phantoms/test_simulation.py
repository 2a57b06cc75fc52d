"""NIfTI magnitude volumes to semi-synthetic k-space."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from scripts.data.datalist import load_datalist
from scripts.inference import open_raw
from scripts.phantoms.acquisition import OBJECT_LEVEL, rss_target
from scripts.phantoms.magnitude import read_magnitude
from scripts.phantoms.phantom import phantom_images
from scripts.phantoms.simulation import Simulation, split_slices
from scripts.requests.cohorts import Cohorts

SHARED = Path(__file__).parents[3] / "shared" / "data"
SHAPE = (40, 36, 24)


def volume(shape: tuple[int, ...] = SHAPE, dtype=np.int16) -> np.ndarray:
    """A bright ellipsoid; slice k has the mean brightness 100 + k, so that slices can be told apart."""
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[:3]), indexing="ij")
    inside = sum(axis**2 for axis in grid[:2]) + 0 * grid[2] < 0.6
    values = inside * (100 + np.arange(shape[2]))
    if len(shape) == 4:
        values = np.stack([values * (echo + 1) for echo in range(shape[3])], axis=-1)
    return values.astype(dtype)


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> str:
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return str(path)


def simulate(images: list[dict], output_dir: Path, **settings) -> str:
    return Simulation(images, output_dir, **settings).write()


@pytest.fixture
def image(tmp_path) -> str:
    return save(tmp_path / "head.nii.gz", volume())


def read(datalist: str) -> dict[str, tuple[np.ndarray, np.ndarray, dict]]:
    result = {}
    for entries in json.loads(Path(datalist).read_text()).values():
        for entry in entries:
            with h5py.File(Path(datalist).parent / entry["kspace"]) as file:
                result[entry["kspace"]] = file["kspace"][:], file["reconstruction_rss"][:], dict(file.attrs)
    return result


def test_files_are_fastmri_format_and_say_that_they_are_semi_synthetic(image, tmp_path):
    entry = {"image": image, "anatomy": "brain", "acquisition": "AXT1"}
    datalist = simulate([entry], tmp_path / "out", num_coils=3, snr=30.0, seed=5)
    for name, (kspace, target, attributes) in read(datalist).items():
        assert kspace.shape[1:] == (3, 36, 40)
        for a, b in zip(kspace, target, strict=True):
            assert np.allclose(rss_target(a), b, rtol=1e-5, atol=0)
        assert attributes["source"] == "semi-synthetic", name
        assert attributes["source_image"] == "head.nii.gz"
        assert (attributes["snr"], attributes["seed"], attributes["anatomy"]) == (30.0, 5, "brain")
        assert "patient_id" not in attributes
    volumes = load_datalist(datalist)
    assert all(v.crop_source == "header" and not v.patient_id for section in volumes.values() for v in section)
    assert [path.name for path in (tmp_path / "out").parent.iterdir() if path.name.startswith(".")] == []


def test_patient_id_is_written_when_given(image, tmp_path):
    datalist = simulate([{"image": image, "patient_id": "P1", "split": "test"}], tmp_path / "out", num_coils=1)
    assert {v.patient_id for v in load_datalist(datalist)["test"]} == {"P1"}


def test_same_seed_same_bits_and_another_seed_others(image, tmp_path):
    first, again, other = (
        read(simulate([{"image": image}], tmp_path / f"out{i}", num_coils=2, seed=seed))
        for i, seed in enumerate((0, 0, 1))
    )
    for name in first:
        assert np.array_equal(first[name][0], again[name][0])
        assert not np.array_equal(first[name][0], other[name][0])


def test_snr_measured_in_air_is_the_snr_as_stated(image, tmp_path):
    datalist = simulate([{"image": image, "split": "training"}], tmp_path / "out", num_coils=8, snr=25.0)
    (_, target, _), *_ = read(datalist).values()
    reference = target[len(target) // 2]
    signal = reference[reference > 2 * OBJECT_LEVEL * reference.max()].mean()
    # RSS of pure noise in C coils: mean square 2 C sigma^2
    sigma = np.sqrt(np.mean(target[:, :4, :4] ** 2) / (2 * 8))
    assert np.isclose(signal / sigma, 25.0, rtol=0.1)


def test_sections_are_contiguous_disjoint_and_apart(image, tmp_path):
    datalist = simulate([{"image": image}], tmp_path / "out", num_coils=1, snr=1e6, gap=2, slices_per_volume=4)
    files = read(datalist)
    counts = dict.fromkeys(("training", "validation", "test"), 0)
    for name, (kspace, _, _) in files.items():
        counts[name.split("/")[0]] += len(kspace)
        assert len(kspace) <= 4
    assert sum(counts.values()) == SHAPE[2] - 2 * 2
    assert counts["training"] > counts["test"] > counts["validation"] >= 1
    assert sum(name.startswith("training") for name in files) >= 3


def test_each_file_names_its_slices_in_the_source(image, tmp_path):
    """Slices differ in brightness by 1 %, so the slices of a file are known from its mean."""
    files = read(simulate([{"image": image}], tmp_path / "out", num_coils=1, snr=1e6, gap=2, slices_per_volume=4))
    named = []
    for _, target, attributes in files.values():
        first, last = map(int, attributes["source_slices"].split("-"))
        named += range(first, last + 1)
        assert last - first + 1 == len(target)
        brightness = target.reshape(len(target), -1).mean(axis=1)
        assert np.allclose(brightness / brightness[0], (100 + np.arange(first, last + 1)) / (100 + first), rtol=1e-3)
    assert len(named) == len(set(named)) == SHAPE[2] - 2 * 2


@pytest.mark.parametrize("number", [7, 20, 37])
@pytest.mark.parametrize("gap", [0, 2])
def test_split_uses_every_slice_but_the_gaps(number, gap):
    runs = list(split_slices(number, {"training": 0.7, "validation": 0.1, "test": 0.2}, gap).values())
    assert runs[0].start == 0
    assert runs[-1].stop == number
    for before, after in pairwise(runs):
        assert after.start - before.stop == gap
        assert len(after) >= 1


def test_air_at_the_ends_is_left_out(tmp_path):
    data = volume()
    data[..., :5] = 0
    data[..., -3:] = data[..., -3:] > 0  # a trace of signal
    path = save(tmp_path / "air.nii.gz", data)
    assert read_magnitude({"image": path}).slices_with_signal() == range(5, 21)


def test_fourth_dimension_and_slice_axis(tmp_path):
    path = save(tmp_path / "echoes.nii.gz", volume((20, 18, 6, 3)))
    second = read_magnitude({"image": path, "volume": 1})
    assert second.data.shape == (6, 18, 20)
    assert second.data[2].max() == 204
    assert read_magnitude({"image": path, "slice_axis": 0}).data.shape == (20, 6, 18)


def test_slices_come_out_upright(tmp_path):
    data = np.zeros((10, 12, 3))
    data[8, 10] = 1  # towards the patient's right and front, where the axes run R and A
    for flip in ([1, 1], [-1, 1], [1, -1]):
        path = save(tmp_path / "corner.nii.gz", data[:: flip[0], :: flip[1]], np.diag([*flip, 1, 1]))
        upright = read_magnitude({"image": path}).data
        assert upright.shape == (3, 12, 10)
        assert np.argwhere(upright[0]).tolist() == [[1, 1]]


def test_smaller_matrix_crops_kspace(image, tmp_path):
    datalist = simulate([{"image": image, "split": "test"}], tmp_path / "out", num_coils=2, matrix=[24, 20])
    kspace, target, _ = next(iter(read(datalist).values()))
    assert (kspace.shape[1:], target.shape[1:]) == ((2, 24, 20), (24, 20))


def test_built_in_phantom_images_are_valid_input(tmp_path):
    images = phantom_images(tmp_path, shape=(32, 32), num_slices=12)
    datalist = load_datalist(simulate(images, tmp_path / "out", num_coils=2))
    assert all({v.fields["anatomy"] for v in section} == {"brain", "knee"} for section in datalist.values())


def bad_values(kind: str) -> np.ndarray:
    data = volume(dtype=np.float32)
    data[20, 18, 12] = {"nan": np.nan, "inf": np.inf, "negative": -1}.get(kind, 0)
    return {"complex": data.astype(np.complex64), "zero": np.zeros_like(data), "five": np.ones((4, 4, 4, 1, 2))}.get(
        kind, data
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", "found NaN or Inf"),
        ("inf", "found NaN or Inf"),
        ("negative", "found a minimum of -1"),
        ("complex", "found data of type complex64"),
        ("zero", "found only zeros"),
        ("five", r"found shape \(4, 4, 4, 1, 2\), expected 2-D to 4-D"),
    ],
)
def test_bad_data_is_refused(kind, message, tmp_path):
    path = save(tmp_path / f"{kind}.nii.gz", bad_values(kind))
    with pytest.raises(ValueError, match=rf"{kind}\.nii\.gz: image: {message}"):
        simulate([{"image": path}], tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{kind}.nii.gz"]


def test_a_volume_that_is_not_there_is_refused(image, tmp_path):
    with pytest.raises(ValueError, match="head.nii.gz: volume: found 1, expected a whole number from 0 to 0"):
        simulate([{"image": image, "volume": 1}], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"snr": 0}, "head.nii.gz: snr: found 0"),
        ({"snr": -3}, "snr: found -3"),
        ({"num_coils": 0}, "num_coils: found 0"),
        ({"matrix": [64, 36]}, r"head.nii.gz: matrix: found \(64, 36\), expected .* to \(36, 40\)"),
        ({"splits": {"test": 0}}, "splits: found {'test': 0}, expected at least one share above 0"),
        ({"gap": 12}, "head.nii.gz: splits: found 24 slices with signal, expected at least 27"),
    ],
)
def test_impossible_setting_is_refused(setting, message, image, tmp_path):
    with pytest.raises(ValueError, match=message):
        simulate([{"image": image}], tmp_path / "out", **setting)
    assert not (tmp_path / "out").exists()


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.nii: image: no such file"):
        simulate([{"image": str(tmp_path / "gone.nii")}], tmp_path / "out")
    (tmp_path / "text.nii.gz").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.nii\.gz: image: found a file that does not open"):
        simulate([{"image": str(tmp_path / "text.nii.gz")}], tmp_path / "out")
    whole = Path(save(tmp_path / "whole.nii.gz", np.random.default_rng(0).integers(0, 999, SHAPE, np.int16)))
    (tmp_path / "half.nii.gz").write_bytes(whole.read_bytes()[:9000])
    with pytest.raises(ValueError, match=r"half\.nii\.gz: image: found a truncated or damaged file"):
        simulate([{"image": str(tmp_path / "half.nii.gz")}], tmp_path / "out")


def test_output_folder_in_use_is_refused(image, tmp_path):
    with pytest.raises(ValueError, match="output_dir: found something there"):
        simulate([{"image": image}], tmp_path)


def test_too_small_a_disk_is_refused(image, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.run.files.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(OSError, match="not enough disk"):
        simulate([{"image": image}], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_failure_while_writing_leaves_nothing_behind(image, tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules[Simulation.__module__], "write_volume", fail)
    with pytest.raises(KeyboardInterrupt):
        simulate([{"image": image}], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head.nii.gz"]


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1), ("meter", 1000), ("micron", 0.001), ("unknown", 1)])
def test_spacing_is_in_millimetres_whatever_the_units(tmp_path, unit, scale):
    stored = np.array([0.5, 1.25, 4.0]) / scale
    image = nib.Nifti1Image(volume(), np.diag([*stored, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    datalist = simulate([{"image": str(tmp_path / "a.nii"), "split": "test"}], tmp_path / "out", num_coils=1)
    found = open_raw(next(Path(datalist).parent.rglob("*.h5")))[0].geometry
    np.testing.assert_allclose(found.spacing, (1.25, 0.5), rtol=1e-5)  # rows are those of the second axis
    assert found.slice_thickness == pytest.approx(4.0, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header["srow_x"].__setitem__(0, np.nan), r"a.nii: affine: found NaN or Inf"),
        (lambda header: header.__setitem__("xyzt_units", 7), r"a.nii: xyzt_units: found 7, expected units of unknown"),
    ],
)
def test_a_header_that_makes_no_sense_is_named(tmp_path, change, message):
    image = nib.Nifti1Image(volume(), np.eye(4))
    change(image.header)
    image.header["sform_code"] = 1
    (tmp_path / "a.nii").write_bytes(image.header.binaryblock + bytes(4) + volume().tobytes(order="F"))
    with pytest.raises(ValueError, match=message):
        read_magnitude({"image": str(tmp_path / "a.nii")})


@pytest.mark.parametrize("flat", [True, False])
def test_single_slices_are_simulated(tmp_path, flat):
    """One image a patient, as of slices that were exported one by one."""
    images = []
    for number in range(10):
        data = volume()[..., number] if flat else volume()[..., number : number + 1]
        images.append({"image": save(tmp_path / f"s{number}.nii.gz", data)})
    files = read(simulate(images, tmp_path / "out", num_coils=2, snr=1e6))
    counts = {
        section: sum(name.startswith(section) for name in files) for section in ("training", "validation", "test")
    }
    assert counts == {"training": 5, "validation": 2, "test": 3}  # one each, the others by the shares
    for _, target, attributes in files.values():
        number = int(attributes["source_image"][1])
        expected = np.flip(volume()[..., number].T, (0, 1))
        assert np.array_equal(target[0] > 0.05 * target.max(), expected > 0)
        assert np.corrcoef(target[0].ravel(), expected.ravel())[0, 1] > 0.9  # the coils shade it


def test_a_patient_stays_in_one_list_and_can_be_forgotten(tmp_path):
    images = []
    for number in range(12):
        path = save(tmp_path / f"scan{number}.nii.gz", volume((20, 18, 6)) + np.int16(number))
        anatomy = "brain" if number < 8 else "knee"
        images.append({"image": path, "patient_id": f"P{number // 2}", "anatomy": anatomy})
    datalist = simulate(images, tmp_path / "out", num_coils=1)
    sections = load_datalist(datalist)
    patients = {section: {v.patient_id for v in volumes} for section, volumes in sections.items()}
    assert [len(patients[section]) for section in ("training", "validation", "test")] == [3, 1, 2]
    assert len(set.union(*patients.values())) == 6
    assert {v.fields["anatomy"] for v in sections["training"]} == {"brain", "knee"}
    wanted = min(patients["training"])
    request = {"request_id": "r", "reason": "asked for", "forget": [{"patient_id": wanted}]}
    cohorts = Cohorts(datalist, request)
    assert {v.patient_id for v in cohorts.forget} == {wanted}
    assert wanted not in {v.patient_id for v in cohorts.retain}


def test_a_stated_list_holds_for_the_whole_patient(tmp_path):
    paths = [save(tmp_path / f"scan{number}.nii.gz", volume((20, 18, 6))) for number in range(2)]
    images = [{"image": paths[0], "patient_id": "P", "split": "test"}, {"image": paths[1], "patient_id": "P"}]
    names = read(simulate(images, tmp_path / "out", num_coils=1))
    assert {name.partition("/")[0] for name in names} == {"test"}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real volumes of ../shared/data are not here")
def test_real_volumes(tmp_path):
    images = [
        {"image": str(SHARED / "brain_t2_axial.nii.gz"), "anatomy": "brain"},
        {"image": str(SHARED / "knee_mese_sagittal.nii.gz"), "anatomy": "knee", "volume": 1},
    ]
    datalist = load_datalist(simulate(images, tmp_path / "out", num_coils=2, matrix=[64, 64]))
    assert all({v.fields["anatomy"] for v in section} == {"brain", "knee"} for section in datalist.values())
