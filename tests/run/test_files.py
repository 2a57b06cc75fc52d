"""Files are whole or not there."""

import hashlib
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock, Timeout

from scripts.run.files import atomic_write, check_disk_space, file_sha256, let_go


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
