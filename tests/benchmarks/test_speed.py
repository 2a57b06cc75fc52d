"""The speed benchmark's checks and tables; nothing is timed."""

import json
from pathlib import Path

import h5py
import pytest
import torch

from tests.benchmarks.speed import data, growth, network, unlearning
from tests.benchmarks.speed.__main__ import main, write
from tests.benchmarks.speed.options import Options
from tests.benchmarks.speed.peer import find_peer
from tests.benchmarks.speed.table import Table

TINY = {"num_cascades": 1, "chans": 2, "pools": 1, "sens_chans": 2, "sens_pools": 1}


@pytest.fixture
def options(tmp_path):
    return Options(tmp_path, peer=None, sizes=("demo",), repeats=1)


def test_tables_are_printed_and_written(options, capsys):
    table = Table("Times", ["pass", "ms"], [["forward", "3"]])
    write("network", [table], options)
    assert "| forward | 3 |" in capsys.readouterr().out
    assert "| forward | 3 |" in (options.folder / "network.md").read_text()
    assert json.loads((options.folder / "network.json").read_text())["tables"] == [{**table.json(), "notes": []}]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="expected 2 cells"):
        Table("Times", ["pass", "ms"], [["forward"]])


def test_unknown_parts_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected some of network, data"):
        main(parts="speed", output_dir=str(tmp_path))


def test_an_interpreter_without_fastmri_is_refused(tmp_path):
    with pytest.raises((ValueError, OSError)):
        find_peer(str(tmp_path / "python"), tmp_path)


def test_different_results_end_the_run():
    ones = torch.ones(1, 4, 4)
    assert network.image_difference({"image": ones}, {"image": ones}) == 0
    assert network.gradient_difference({"w": ones}, {"w": ones}) == 0
    with pytest.raises(AssertionError, match="images differ"):
        network.image_difference({"image": ones + 1e-4}, {"image": ones})
    with pytest.raises(AssertionError, match="gradients differ"):
        network.gradient_difference({"w": ones + 1e-2}, {"w": ones})


def test_a_slice_that_is_not_the_files_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(data.CASES, "tiny", (1, 2, (2, 8, 6), (4, 4)))
    folder = data.write_volumes(tmp_path, "tiny")
    volume = folder / "volume_00.h5"
    with h5py.File(volume) as file:
        kspace = torch.view_as_real(torch.from_numpy(file["kspace"][0]))
        target = torch.from_numpy(file["reconstruction_rss"][0])
    columns = torch.tensor([1, 0, 1, 1, 0, 0])[:, None]
    assert data.assert_slice({"masked_kspace": kspace * columns, "target": target}, volume) == 3
    with pytest.raises(AssertionError, match="k-space"):
        data.assert_slice({"masked_kspace": 2 * kspace * columns, "target": target}, volume)
    with pytest.raises(AssertionError, match="target"):
        data.assert_slice({"masked_kspace": kspace * columns, "target": target + 1}, volume)


def test_cost_of_unlearning_is_read_from_the_records():
    training = {"cost": {"forward_slices": 200, "backward_slices": 100, "seconds": 10.0}}
    forgetting = {"cost": {"forward_slices": 20, "backward_slices": 10, "seconds": 2.0}, "method": "fine_tune"}
    for record in (training, forgetting):
        record["environment"] = {"threads": 1}
    table = unlearning.cost_table(training, forgetting)
    assert [row[-1] for row in table.rows] == ["0.100", "0.100", "0.200"]


def test_growth_is_drawn(options):
    growth.draw({axis: [(value, value) for value in values] for axis, (values, _) in growth.AXES.items()}, options)
    assert {path.name for path in options.folder.iterdir()} == {"growth.png", "growth.svg"}


def test_a_worker_measures_a_network(options, monkeypatch):
    monkeypatch.setitem(network.CASES, "demo", (TINY, (2, 24, 20)))
    (table,) = network.network(options)
    kinds = ["fp32", "bf16", "fp32, checkpointed", "bf16, checkpointed"]
    assert [row[:3] for row in table.rows] == [
        *(["demo", "forward", kind] for kind in kinds[:2]),
        *(["demo", "step", kind] for kind in kinds),
    ]
    assert all(float(row[column]) > 0 for row in table.rows for column in (3, 5))
    assert not list(Path(options.folder).glob("result*"))
