"""The cache of generated files: whole folders, made once, and nothing else."""

import os
from pathlib import Path

import pytest

from scripts.phantoms.cache import cached_folder


def make(folder: Path) -> None:
    (folder / "scan").write_text("whole")


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


def test_what_a_killed_process_left_is_removed(tmp_path):
    folder = cached_folder(tmp_path, "kind", {"a": 1}, make)
    (folder / "scan").unlink()  # damaged: it is made again
    for name in (f".partial-{folder.name}-killed", ".partial-another-at_work"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scan").write_text("half")
    assert cached_folder(tmp_path, "kind", {"a": 1}, make) == folder
    assert (folder / "scan").read_text() == "whole"
    assert names(tmp_path) == {folder.name, ".partial-another-at_work"}


def test_a_maker_that_fails_leaves_nothing(tmp_path):
    def fail(folder: Path) -> None:
        make(folder)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cached_folder(tmp_path, "kind", {}, fail)
    assert names(tmp_path) == set()


def a_file_above(root, folder, monkeypatch):
    root.parent.mkdir()
    root.write_text("")


def no_right_to_write(root, folder, monkeypatch):
    root.mkdir(parents=True)
    may = os.access  # root may write everywhere, and tests are run by root, too
    monkeypatch.setattr(os, "access", lambda path, mode: path != root and may(path, mode))


def a_file_in_its_place(root, folder, monkeypatch):
    root.mkdir(parents=True)
    (root / folder).write_text("")


@pytest.mark.parametrize("spoil", [a_file_above, no_right_to_write, a_file_in_its_place])
def test_a_cache_that_cannot_be_used_is_named_in_one_line(tmp_path, monkeypatch, spoil):
    folder = cached_folder(tmp_path / "other", "kind", {}, make).name
    root = tmp_path / "deep" / "cache"
    spoil(root, folder, monkeypatch)
    with pytest.raises(OSError, match=r"expected a folder to keep files in, found .*; name another: MRI_") as error:
        cached_folder(root, "kind", {}, make)
    assert str(error.value).startswith(f"{root}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3}', '{"files": [3]}', '{"files": ["gone"]}', "\udcff"])
def test_a_corrupted_list_of_files_means_that_the_folder_is_made_again(tmp_path, content):
    folder = cached_folder(tmp_path, "kind", {}, make)
    (folder / "complete.json").write_text(content, errors="surrogateescape")
    (folder / "scan").write_text("half")
    assert cached_folder(tmp_path, "kind", {}, make) == folder
    assert (folder / "scan").read_text() == "whole"
