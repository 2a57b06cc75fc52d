"""The built-in phantoms: anatomy, determinism, cache."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from scripts.data.datalist import load_datalist
from scripts.phantoms import phantom
from scripts.phantoms.acquisition import rss_target
from scripts.phantoms.anatomy_brain import CONTRASTS as BRAIN_CONTRASTS
from scripts.phantoms.anatomy_brain import brain_slices
from scripts.phantoms.anatomy_knee import CONTRASTS as KNEE_CONTRASTS
from scripts.phantoms.anatomy_knee import knee_slices
from scripts.phantoms.magnitude import read_magnitude
from scripts.phantoms.phantom import phantom_datalist, phantom_images
from scripts.run.files import CACHE_VARIABLE

SMALL = {
    "num_training": {"brain": 2, "knee": 1},
    "num_validation": {"brain": 1},
    "num_test": {"brain": 1, "knee": 1},
    "slices_per_volume": 2,
    "matrix": (32, 32),
    "num_coils": 2,
}


def contents(datalist: str) -> dict[str, bytes]:
    folder = Path(datalist).parent
    result = {"datalist": Path(datalist).read_bytes()}
    for path in sorted(folder.rglob("*.h5")):
        with h5py.File(path) as file:
            result[str(path.relative_to(folder))] = (
                file["kspace"][:].tobytes() + file["reconstruction_rss"][:].tobytes()
            )
    return result


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> str:
    return phantom_datalist(tmp_path_factory.mktemp("cache"), **SMALL)


@pytest.mark.parametrize(
    ("draw", "acquisition"),
    [(brain_slices, name) for name in BRAIN_CONTRASTS] + [(knee_slices, name) for name in KNEE_CONTRASTS],
)
def test_sections_are_finite_vary_by_seed_and_change_smoothly(draw, acquisition):
    positions = np.array([0.1, 0.13, 0.5])
    first, again, other = (draw((64, 64), positions, np.random.default_rng(s), acquisition) for s in (1, 1, 2))
    assert first.shape == (3, 64, 64)
    assert np.isfinite(first).all()
    assert first.min() >= 0
    assert first.max() > 0.3
    assert np.array_equal(first, again)
    assert np.abs(first - other).mean() > 0.02
    assert 0 < np.abs(first[1] - first[0]).mean() < np.abs(first[2] - first[0]).mean()


def test_datalist_names_every_volume(small):
    listed = json.loads(Path(small).read_text())
    assert {section: len(entries) for section, entries in listed.items()} == {"training": 3, "validation": 1, "test": 2}
    entries = [entry for section in listed.values() for entry in section]
    assert all(set(entry) == {"kspace", "patient_id", "anatomy", "acquisition"} for entry in entries)
    assert len({entry["patient_id"] for entry in entries}) == len(entries)
    volumes = [volume for section in load_datalist(small).values() for volume in section]
    assert all(volume.kspace_shape == (2, 2, 32, 32) and volume.crop_source == "header" for volume in volumes)


def test_kspace_and_target_agree_and_the_file_says_what_it_is(small):
    for path in Path(small).parent.rglob("*.h5"):
        with h5py.File(path) as file:
            for kspace, target in zip(file["kspace"], file["reconstruction_rss"], strict=True):
                assert np.allclose(rss_target(kspace), target, rtol=1e-5, atol=0)
            assert file.attrs["source"] == "phantom"
            assert 1.5e-4 < file.attrs["max"] < 5e-4
            assert 20 <= file.attrs["snr"] <= 60


def test_same_settings_give_the_same_bits_and_another_seed_others(small, tmp_path, monkeypatch):
    monkeypatch.setattr(phantom, "JOBS", 1)  # not in parallel, as `small` was
    assert contents(phantom_datalist(tmp_path, **SMALL)) == contents(small)
    other = phantom_datalist(tmp_path, **SMALL, seed=1)
    assert Path(other).parent != Path(small).parent
    assert all(value != contents(small)[name] for name, value in contents(other).items() if name.endswith("h5"))


def test_more_volumes_leave_the_others_as_they_were(small, tmp_path):
    more = phantom_datalist(tmp_path, **{**SMALL, "num_training": {"brain": 3, "knee": 1}})
    assert contents(more)["training/brain-0001.h5"] == contents(small)["training/brain-0001.h5"]


def test_second_call_reads_the_cache(small):
    folder = Path(small).parent
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert phantom_datalist(folder.parent, **SMALL) == small
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_cache_folder_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "elsewhere"))
    assert Path(phantom_datalist(**SMALL)).is_relative_to(tmp_path / "elsewhere")


def test_damaged_cache_is_made_anew(tmp_path):
    datalist = phantom_datalist(tmp_path, **SMALL)
    expected = contents(datalist)
    (Path(datalist).parent / "training" / "brain-0001.h5").unlink()
    assert phantom_datalist(tmp_path, **SMALL) == datalist
    assert contents(datalist) == expected
    assert [path.name for path in tmp_path.iterdir()] == [Path(datalist).parent.name]


def test_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("scripts.phantoms.phantom.write_volume", fail)
    with pytest.raises(KeyboardInterrupt):
        phantom_datalist(tmp_path, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_of_two_at_once_one_makes_the_files(tmp_path, monkeypatch, small):
    write, made = phantom._write_scans, []

    def counted(folder, settings):
        made.append(folder)
        write(folder, settings)

    monkeypatch.setattr(phantom, "_write_scans", counted)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: phantom_datalist(tmp_path, **SMALL), range(2))
    assert first == second
    assert len(made) == 1
    assert len(list(tmp_path.iterdir())) == 1
    assert contents(first) == contents(small)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_training": {"heart": 1}}, r"num_training: found \['heart'\]"),
        ({"num_test": {"brain": -1}}, "num_test: found"),
        ({"snr": (0, 10)}, "snr: found 0.0"),
        ({"snr": (20, 10)}, r"snr: found \[20.0, 10.0\]"),
        ({"slices_per_volume": 0}, "slices_per_volume: found 0"),
        ({"num_coils": 0}, "num_coils: found 0"),
        ({"matrix": (0, 32)}, "matrix: found"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        phantom_datalist(tmp_path, **{**SMALL, **change})
    assert list(tmp_path.iterdir()) == []


def test_images_for_simulate(tmp_path):
    images = phantom_images(tmp_path, shape=(48, 40), num_slices=4)
    assert [entry["anatomy"] for entry in images] == ["brain", "brain", "knee"]
    for entry in images:
        image = nib.load(entry["image"])
        assert image.shape == (40, 48, 4)
        assert np.asarray(image.dataobj).min() >= 0
    assert phantom_images(tmp_path, shape=(48, 40), num_slices=4) == images


def test_images_come_out_of_simulate_as_they_were_drawn(tmp_path):
    brain, _, knee = phantom_images(tmp_path, shape=(48, 40), num_slices=4)
    for entry, number, (draw, extent) in (
        (brain, 0, (brain_slices, (-0.1, 0.75))),
        (knee, 2, (knee_slices, (-0.7, 0.7))),
    ):
        drawn = draw((48, 40), np.linspace(*extent, 4), np.random.default_rng([0, 100 + number]), entry["acquisition"])
        assert np.allclose(read_magnitude(entry).data, 1000 * drawn, atol=0.51)
