"""The cache of generated files: whole folders, made once, and nothing else."""

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
