"""A run is not resumed on other data than it began with, even where no file's size has changed."""

import json
import shutil
from pathlib import Path

import h5py
import pytest

from scripts.run.files import file_sha256
from scripts.training import file_hashes
from tests.verbs import SMALL, run


class Stop:
    """Handler that stops a run as Ctrl-C does, once: when its second epoch begins."""

    done = False

    def attach(self, engine) -> None:
        from ignite.engine import Events

        engine.add_event_handler(Events.EPOCH_STARTED(once=2), self)

    def __call__(self) -> None:
        if not type(self).done:
            type(self).done = True
            raise KeyboardInterrupt


SETTINGS = {
    **SMALL,
    "method_name": "stopped",
    "method": [{"_target_": "tests.training.test_resume_refused.Stop"}],
    "unlearn_epochs": 2,
    "budget": None,
    "retain_fraction": 1.0,
    "evaluate_models": False,
    "enter_in_ledger": False,
    "resume": True,
}


def flip(file: Path) -> None:
    """Change one sample of the k-space in place; the size of the file stays."""
    size = file.stat().st_size
    with h5py.File(file, "r+") as content:
        content["kspace"][0, 0, 0, 0] *= 1.001
    assert file.stat().st_size == size


def test_changed_retain_or_forget_data_is_refused(tiny_datalist, trained, tmp_path, contained, monkeypatch):
    data = tmp_path / "data"
    settings = {"datalist": str(data / "datalist.json"), "weights": str(trained / "original.pt"), **SETTINGS}
    shutil.copytree(Path(tiny_datalist).parent, data)
    monkeypatch.setattr(Stop, "done", False)
    read = []
    monkeypatch.setattr(file_hashes, "file_sha256", lambda path: read.append(Path(path).name) or file_sha256(path))
    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        run("unlearn", "approximate.yaml", output_dir="out", **settings)
    assert Path("out/unlearned.checkpoint").exists()
    assert len(read) == len(set(read))  # each file once
    for name in ("brain_000.h5", "knee_010.h5"):
        shutil.copy(data / name, tmp_path / name)
        flip(data / name)
        with pytest.raises(RuntimeError) as refused:
            run("unlearn", "approximate.yaml", output_dir="out", **settings)
        role = "retain" if "brain" in name else "forget"
        assert f"checkpoint of another run: 'data#{role}#{name}': expected" in str(refused.value.__cause__)
        shutil.copy(tmp_path / name, data / name)
    run("unlearn", "approximate.yaml", output_dir="out", **settings)
    record = json.loads(Path("out/unlearned.json").read_text())
    for role, anatomy in (("retain", "brain"), ("forget", "knee")):
        for entry in record["data"][role]["volumes"]:
            assert entry["volume"].startswith(anatomy)
            assert entry["sha256"] == file_sha256(data / entry["volume"])
