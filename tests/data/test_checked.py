"""A file that has passed is not read again, and another one is never taken for it for good."""

import logging
import os
import shutil

import h5py
import pytest
import torch

from scripts.data import checks, digests
from scripts.data.checks import check_once, has_passed
from scripts.data.digests import known_sha256
from scripts.data.volumes import inspect_volume
from scripts.run.files import CACHE_VARIABLE, cache_root, file_sha256
from scripts.training import file_hashes
from scripts.training.file_hashes import FileHashes
from tests.conftest import write_tiny_volume
from tests.data.test_checks import MASK, NETWORK


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def volume(tmp_path):
    write_tiny_volume(tmp_path / "scan.h5", seed=0)
    return inspect_volume(tmp_path / "scan.h5")


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The files whose values were read."""
    found = []
    original = checks.check_volume_values
    monkeypatch.setattr(checks, "check_volume_values", lambda volume: found.append(volume.name) or original(volume))
    return found


def spoil(path: str) -> None:
    """Put infinity in place of one sample; the size stays, and the time of the last change is put back."""
    before = os.stat(path)
    with h5py.File(path, "r+") as file:
        file["kspace"][1, 0, 0, 0] = float("inf")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(path)
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)


def test_the_second_run_reads_nothing(volume, read):
    for _ in range(2):
        checks.check_volumes([volume], NETWORK, MASK)
    assert read == ["scan.h5"]
    assert has_passed(volume)
    assert known_sha256(volume.path) == file_sha256(volume.path)


def test_an_edit_of_the_same_size_and_time_is_found(volume):
    check_once(volume)
    spoil(volume.path)
    with pytest.raises(ValueError, match="'kspace', slice 1: expected finite values"):
        check_once(volume)
    assert not has_passed(volume)
    assert known_sha256(volume.path) == file_sha256(volume.path)


def test_another_file_in_its_place_is_read(volume, read, tmp_path):
    check_once(volume)
    shutil.copy2(volume.path, tmp_path / "copy.h5")
    os.replace(tmp_path / "copy.h5", volume.path)
    check_once(volume)
    assert read == ["scan.h5", "scan.h5"]


def test_a_file_whose_times_lie_ends_the_run(volume, monkeypatch):
    status = digests.status(volume.path)
    for module in (checks, digests, file_hashes):
        monkeypatch.setattr(module, "status", lambda path: status)
    check_once(volume)
    FileHashes([volume.path]).refuse_changed()
    spoil(volume.path)
    check_once(volume)  # taken for the one that passed
    assert known_sha256(volume.path) != file_sha256(volume.path)
    with pytest.raises(RuntimeError, match=r"scan.h5: expected the file that was checked or .* found\s\w{64}"):
        FileHashes([volume.path]).refuse_changed()


def test_other_rules_make_every_file_new(volume, read, monkeypatch):
    check_once(volume)
    monkeypatch.setattr(checks, "_rules", lambda: "of another version")
    check_once(volume)
    assert len(read) == 2


@pytest.mark.parametrize("content", ["", "[]", "null", '{"sha256": 1}', "{"])
def test_a_damaged_entry_counts_for_nothing(volume, read, content, tmp_path):
    check_once(volume)
    (entry,) = (tmp_path / "cache" / "files").iterdir()
    entry.write_text(content)
    check_once(volume)
    assert len(read) == 2


def test_values_in_other_files_are_read_each_time(volume, read, tmp_path):
    with h5py.File(volume.path) as file:
        shape, kspace = file["kspace"].shape, file["kspace"][()]
    with h5py.File(volume.path, "r+") as file:
        del file["kspace"]
        file.create_dataset("kspace", shape, "c8", external=[(str(tmp_path / "values.raw"), 0, h5py.h5f.UNLIMITED)])
        file["kspace"][()] = kspace
    volume = inspect_volume(volume.path)
    for _ in range(2):
        check_once(volume)
    assert len(read) == 2


def test_a_cache_that_cannot_be_written_is_no_harm(volume, read, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file in its place")
    check_once(volume)
    check_once(volume)
    assert len(read) == 2
    assert "cannot be kept there" in caplog.text


@pytest.mark.parametrize("readers", [0, 2])
def test_the_first_bad_file_is_named_and_no_random_number_drawn(tmp_path, monkeypatch, readers, caplog):
    volumes = []
    for number in range(4):
        write_tiny_volume(tmp_path / f"scan_{number}.h5", seed=number)
        if number >= 2:
            spoil(str(tmp_path / f"scan_{number}.h5"))
        volumes.append(inspect_volume(tmp_path / f"scan_{number}.h5"))
    monkeypatch.setattr(checks, "_readers", lambda volumes: min(readers, len(volumes)))
    state = torch.get_rng_state()
    with caplog.at_level(logging.DEBUG):
        for known in (0, 2):
            with pytest.raises(ValueError, match="scan_2.h5: 'kspace', slice 1: expected finite values"):
                checks.check_volumes(volumes, NETWORK, MASK)
            assert f"values of 4 volumes: {known} were checked before" in caplog.text
    assert torch.equal(torch.get_rng_state(), state)


def test_readers_are_for_much_data(volume, monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    assert checks._readers([volume] * 3) == 0
    monkeypatch.setattr(checks, "WORTH_READERS", 1)
    assert checks._readers([volume] * 3) == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert checks._readers([volume] * 3) == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert checks._readers([volume] * 3) == 0


def test_a_hash_is_computed_once(volume, monkeypatch):
    computed = []
    for module in (digests, file_hashes):
        monkeypatch.setattr(module, "file_sha256", lambda path: computed.append(path) or file_sha256(path))
    expected = file_sha256(volume.path)
    assert FileHashes([volume.path])[volume.path] == expected
    assert [known_sha256(volume.path) for _ in range(2)] == [expected, expected]
    check_once(volume)
    assert computed == [volume.path]
    assert has_passed(volume)


def test_a_cache_that_cannot_be_written_is_told_once(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MRI_UNLEARNING_CACHE", str(tmp_path / "file"))
    for name in "ab":
        write_tiny_volume(tmp_path / f"{name}.h5", 0)
        assert known_sha256(tmp_path / f"{name}.h5") == file_sha256(tmp_path / f"{name}.h5")
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert str(tmp_path / "file") in told
    assert "MRI_UNLEARNING_CACHE" in told


def test_a_user_without_a_home_has_a_cache(monkeypatch):
    def nobody(_):
        raise KeyError("uid not found")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("MRI_UNLEARNING_CACHE", raising=False)
    assert cache_root().is_absolute()
