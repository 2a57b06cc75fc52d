"""Runs that meet in one folder, or results that are there already: nothing is lost, nothing is left over."""

import pytest

from scripts.run.folder import RunFolder


def test_two_runs_do_not_share_a_folder(tmp_path):
    one, two = (RunFolder(tmp_path / "out", results=["a.pt"]) for _ in range(2))
    one.open()
    with pytest.raises(FileExistsError, match="another run is at work in this folder"):
        two.open()
    one.close()
    assert not (tmp_path / "out").exists()  # nothing was written
    two.open()
    two.close()


def test_results_are_kept_unless_they_are_to_be_replaced(tmp_path):
    (tmp_path / "a.pt").write_text("result")
    with pytest.raises(FileExistsError, match=r"holds the results of a run already \(a.pt\).*--overwrite true"):
        RunFolder(tmp_path, results=["a.pt"]).check()
    with pytest.raises(FileExistsError, match="--overwrite true"):
        RunFolder(tmp_path, results=["a.pt"], checkpoint="a.checkpoint", resume=True).check()
    with pytest.raises(ValueError, match="overwrite its own input"):
        RunFolder(tmp_path, results=["a.pt"], inputs=[str(tmp_path / "a.pt")], overwrite=True).check()
    folder = RunFolder(tmp_path, results=["a.pt"], overwrite=True)
    folder.open()
    assert not (tmp_path / "a.pt").exists()
    folder.close()


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(NotADirectoryError, match="'output_dir'.*is a file"):
        RunFolder(tmp_path / "out").check()


def test_resume_and_overwrite_continue_what_was_stopped_and_replace_what_was_finished(tmp_path):
    settings = {"results": ["a.pt"], "checkpoint": "a.checkpoint", "resume": True, "overwrite": True}
    result, checkpoint = tmp_path / "a.pt", tmp_path / "a.checkpoint"
    for file in (result, checkpoint):
        file.write_text("of an earlier run")
    for stopped in (True, False):
        (folder := RunFolder(tmp_path, **settings)).open()
        folder.close()
        assert result.exists() == checkpoint.exists() == stopped
        checkpoint.unlink(missing_ok=True)
