"""Datalists from fastMRI's folders."""

import json

import pytest

from scripts.data.fastmri_datalist import fastmri_datalist
from scripts.requests.cohorts import Cohorts
from tests.conftest import write_tiny_volume


@pytest.fixture
def folders(tmp_path):
    seed = 0
    for name, acquisitions in {
        "brain_train": ["AXT2"] * 6 + ["AXT1"] * 3,
        "brain_val": ["AXT2"] * 6 + ["AXT1"],
        "knee_train": ["CORPD_FBK"] * 3,
        "knee_val": ["CORPD_FBK"] * 3,
    }.items():
        (tmp_path / name).mkdir()
        for acquisition in acquisitions:
            path = tmp_path / name / f"file{seed}.h5"
            write_tiny_volume(path, seed, acquisition=acquisition, patient_id=f"P{seed}")
            seed += 1
    return {name: str(tmp_path / name) for name in ("brain_train", "brain_val", "knee_train", "knee_val")}


SIZES = {"retain_slices": 10, "ratio": 5, "validation_slices": 3, "test_volumes": 2}


def test_proportions_and_disjoint_patients(folders, tmp_path):
    output = tmp_path / "lists" / "datalist.json"
    fastmri_datalist(output, **folders, **SIZES)
    cohorts = Cohorts(output, {"request_id": "r", "reason": "", "forget": [{"anatomy": "knee"}]})
    assert [sum(v.num_slices for v in part) for part in (cohorts.retain, cohorts.forget)] == [10, 2]
    assert sum(v.num_slices for v in cohorts.validation) == 4  # whole volumes until 3 are reached
    assert {name: len(part) for name, part in cohorts.evaluation().items()} == {"BTA": 2, "KTA": 2, "UA": 1}
    assert {v.fields["acquisition"] for v in cohorts.retain + cohorts.validation} == {"AXT2"}
    patients = [v.patient_id for section in cohorts.sections.values() for v in section]
    assert len(set(patients)) == len(patients)


def test_seed(folders, tmp_path):
    def lists(seed):
        fastmri_datalist(tmp_path / "a.json", **folders, **{**SIZES, "retain_slices": 4}, seed=seed)
        return json.loads((tmp_path / "a.json").read_text())

    assert lists(0) == lists(0)
    assert any(lists(0) != lists(seed) for seed in range(1, 5))


def test_linked_batches_and_other_endings(folders, tmp_path):
    """A download in batches, each on a disk of its own."""
    for name in folders:
        source = tmp_path / name
        source.rename(tmp_path / f"disk_{name}")
        source.mkdir()
        (source / "batch").symlink_to(tmp_path / f"disk_{name}")
        for file in source.glob("batch/*.h5"):
            file.rename(file.with_suffix(".HDF5"))
    fastmri_datalist(tmp_path / "b.json", **folders, **SIZES)
    cohorts = Cohorts(tmp_path / "b.json", {"request_id": "r", "reason": "", "forget": [{"anatomy": "knee"}]})
    assert [sum(v.num_slices for v in part) for part in (cohorts.retain, cohorts.forget)] == [10, 2]


def test_too_little(folders, tmp_path):
    with pytest.raises(ValueError, match="knee_val: knee: expected enough volumes for 4 volumes, found too few"):
        fastmri_datalist(tmp_path / "a.json", **folders, **{**SIZES, "test_volumes": 4})
    with pytest.raises(FileNotFoundError, match="nowhere: expected fastMRI files"):
        fastmri_datalist(tmp_path / "a.json", **{**folders, "brain_val": "nowhere"}, **SIZES)
    assert not (tmp_path / "a.json").exists()
