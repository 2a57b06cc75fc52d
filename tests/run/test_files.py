"""Files are whole or not there."""

import errno
import hashlib
import subprocess
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock, Timeout

from scripts.run.files import atomic_write, check_disk_space, file_sha256, held, let_go, take_lock
from scripts.run.folder import RunFolder


def test_whole_file(tmp_path):
    path = tmp_path / "deep" / "a.json"
    with atomic_write(path) as temporary:
        assert temporary.endswith(".json")
        with open(temporary, "w") as file:
            file.write("one")
        assert not path.exists()
    assert path.read_text() == "one"


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        with open(temporary, "w") as file:
            file.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_sha256(tmp_path):
    data = bytes(range(256)) * 10000
    (tmp_path / "a").write_bytes(data)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_disk_space(tmp_path, monkeypatch):
    check_disk_space(tmp_path / "not" / "yet", 1)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("scripts.run.files.shutil.disk_usage", lambda path: usage(10, 5, 5_000_000))
    with pytest.raises(OSError, match="out: not enough disk for the outputs: expected 6 MB free, found 5 MB"):
        check_disk_space(tmp_path / "out", 6_000_000)


def test_a_lock_that_is_let_go_leaves_no_file_and_goes_to_one(tmp_path):
    path = tmp_path / ".lock"
    first, second, third = (FileLock(path, thread_local=False) for _ in range(3))
    first.acquire()
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(second.acquire, timeout=10)
        let_go(first)
        waiting.result()
    assert second.is_locked
    with pytest.raises(Timeout):
        third.acquire(blocking=False)
    let_go(third)  # not held: the other's file stays
    assert path.exists()
    let_go(second)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS])
def no_locks(request, monkeypatch):
    """A file system without locks, such as a network mount."""

    def flock(handle, operation):
        raise OSError(request.param, "no locks here")

    monkeypatch.setattr("fcntl.flock", flock)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_file_itself_is_the_lock(tmp_path):
    path = tmp_path / ".lock"
    with held(path):
        with pytest.raises(Timeout):
            take_lock(path, wait=False)
        assert path.exists()
    assert not path.exists()
    first, second = RunFolder(tmp_path / "out"), RunFolder(tmp_path / "out")
    first.open()
    with pytest.raises(FileExistsError, match=r"another run is at work in this folder \(its lock: .*out/.lock\)"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_the_lock_of_a_killed_process_is_taken_over_without_locks(tmp_path, no_locks):
    code = "import os, sys, filelock; lock = filelock.SoftFileLock(sys.argv[1]); lock.acquire(); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / ".lock")], check=False)
    assert (tmp_path / ".lock").exists()
    let_go(take_lock(tmp_path / ".lock", wait=False))
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_is_what_was_written(tmp_path):
    """Of a run whose outputs are not known before, such as the images of a folder."""
    (tmp_path / "old.nii.gz").write_text("of another run")
    folder = RunFolder(tmp_path, log="run.log")
    folder.open()
    try:
        assert folder.kept() == f"No result was written to {tmp_path}."
        (tmp_path / "a_dicom").mkdir()
        for name in ("a.nii.gz", "a_dicom/IM0001.dcm", ".partial-b"):
            (tmp_path / name).write_text("new")
        assert folder.kept() == f"Kept in {tmp_path}: a.nii.gz, a_dicom/IM0001.dcm."
        for number in range(30):
            (tmp_path / f"b{number:02d}.nii.gz").write_text("new")
        assert folder.kept().endswith("b17.nii.gz, … (32 files).")
    finally:
        folder.close()
    named = RunFolder(tmp_path, results=["missing.pt", "old.nii.gz"], overwrite=True)
    assert named.kept() == f"Kept in {tmp_path}: old.nii.gz."
