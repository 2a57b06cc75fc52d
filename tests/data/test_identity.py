"""One scan under two patients' names: scaled, exchanged in part, shifted in phase; and honest scans."""

import json
import logging
import shutil

import h5py
import numpy as np
import pytest

from scripts.data import identity
from scripts.data.datalist import load_datalist
from scripts.data.volumes import inspect_volume
from tests.conftest import write_tiny_volume


@pytest.fixture
def scans(tmp_path):
    """Writes a datalist of five patients, one of whom has two scans."""
    for seed in range(6):
        write_tiny_volume(tmp_path / f"{seed}.h5", seed, slices=4)
    entries = [{"kspace": f"{seed}.h5", "patient_id": f"P{min(seed, 4)}"} for seed in range(6)]
    lists = {"training": entries[:4], "test": entries[4:]}
    (tmp_path / "datalist.json").write_text(json.dumps(lists))
    return tmp_path


def change(path, make):
    with h5py.File(path, "r+") as file:
        kspace = make(file["kspace"][()].astype(np.complex128))
        file["kspace"][...] = kspace
        for key in ("reconstruction_rss", "reconstruction_esc"):
            if key in file:
                file[key][...] *= 1.0001
                file.attrs["max"] = float(file[key][()].max())


def test_scans_of_different_patients_pass(scans):
    load_datalist(scans / "datalist.json")


def scaled(kspace):
    return kspace * 1.0001


def turned(kspace):
    return kspace * 3.0 * np.exp(0.7j)


def middle_exchanged(kspace):
    kspace = kspace * 1.0001
    kspace[len(kspace) // 2] = np.random.default_rng(0).normal(size=kspace.shape[1:]) * np.abs(kspace).mean()
    return kspace


def noisy(kspace):
    return kspace + np.random.default_rng(0).normal(size=kspace.shape) * np.abs(kspace).mean() * 0.02


@pytest.mark.parametrize("make", [scaled, turned, middle_exchanged])
@pytest.mark.parametrize("other", [2, 5], ids=["kept in training", "in the test list"])
def test_a_forgotten_scan_as_another_patients(scans, make, other):
    """In the retain set it would be learnt, in the test list measured."""
    shutil.copyfile(scans / "0.h5", scans / f"{other}.h5")
    change(scans / f"{other}.h5", make)
    with pytest.raises(ValueError, match=rf"'kspace': slice \d of 0.h5 and slice \d of {other}.h5 are one measurement"):
        load_datalist(scans / "datalist.json")


def test_one_object_measured_twice_is_a_warning(scans, caplog):
    shutil.copyfile(scans / "0.h5", scans / "2.h5")
    change(scans / "2.h5", noisy)
    load_datalist(scans / "datalist.json")
    assert "0.h5 and 2.h5, of two patients, differ by little more than noise" in caplog.text


def test_scans_of_one_patient_may_be_alike(scans):
    shutil.copyfile(scans / "4.h5", scans / "5.h5")
    change(scans / "5.h5", scaled)
    load_datalist(scans / "datalist.json")


def test_what_was_not_compared_is_said(scans, monkeypatch, caplog):
    monkeypatch.setattr(identity, "MOST_SLICES", 6)
    with caplog.at_level(logging.INFO):
        load_datalist(scans / "datalist.json")
    assert "not every slice of 6 of 6 volumes was compared" in caplog.text
    caplog.clear()
    monkeypatch.setattr(identity, "_passed", set())
    monkeypatch.setattr(identity, "MOST_SECONDS", -1.0)
    with caplog.at_level(logging.INFO):
        load_datalist(scans / "datalist.json")
    assert "of 6 of 6 volumes" in caplog.text


def test_a_process_compares_the_same_files_once(scans, monkeypatch):
    """Such as a study, each run of which loads the datalist; a file that was changed is compared again."""
    read = []
    low_frequencies = identity._low_frequencies
    monkeypatch.setattr(identity, "_low_frequencies", lambda v, chosen: read.append(v) or low_frequencies(v, chosen))
    load_datalist(scans / "datalist.json")
    load_datalist(scans / "datalist.json")
    assert len(read) == 6
    shutil.copyfile(scans / "0.h5", scans / "2.h5")
    change(scans / "2.h5", scaled)
    for _ in range(2):
        with pytest.raises(ValueError, match="are one measurement"):
            load_datalist(scans / "datalist.json")
    assert len(read) == 18


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38, 0.0])
def test_values_that_no_scan_has_are_left_to_the_check_of_values(scans, value):
    change(scans / "1.h5", lambda kspace: np.full_like(kspace, value))
    change(scans / "2.h5", lambda kspace: np.full_like(kspace, value))
    volumes = [inspect_volume(scans / f"{seed}.h5", fields={"patient_id": f"P{seed}"}) for seed in range(4)]
    if value == 1e38:  # constant, and so one measurement
        with pytest.raises(ValueError, match=r"1\.h5 and slice \d of .*2\.h5 are one"):
            identity.refuse_same_scans(volumes, "datalist.json")
    else:
        identity.refuse_same_scans(volumes, "datalist.json")
