"""The datalist and what it refuses."""

import json
import logging

import h5py
import pytest

from scripts.data.datalist import load_datalist
from scripts.requests.cohorts import Cohorts
from tests.conftest import write_tiny_volume


def write(tmp_path, content) -> str:
    path = tmp_path / "datalist.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_sections_names_and_fields(tiny_datalist):
    sections = load_datalist(tiny_datalist)
    assert {name: len(volumes) for name, volumes in sections.items()} == {"training": 12, "validation": 1, "test": 4}
    volume = sections["training"][0]
    assert volume.name == "brain_000.h5"
    assert volume.fields["anatomy"] == "brain"
    assert volume.fields["acquisition"] == "TEST"  # from the file


def test_paths_are_relative_to_the_datalist(tmp_path, tiny_datalist, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_datalist(tiny_datalist)["test"]


def test_a_byte_order_mark_is_no_part_of_it(tmp_path):
    write_tiny_volume(tmp_path / "a.h5", seed=0)
    content = "\ufeff" + json.dumps({"training": [{"kspace": "a.h5", "anatomy": "brain"}]})
    (tmp_path / "datalist.json").write_text(content, encoding="utf-8")
    (volume,) = load_datalist(tmp_path / "datalist.json")["training"]
    assert (volume.name, volume.fields["anatomy"]) == ("a.h5", "brain")


def test_absent_header_is_said_in_the_log(tmp_path, caplog):
    write_tiny_volume(tmp_path / "a.h5", seed=0)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["ismrmrd_header"]
    with caplog.at_level(logging.INFO):
        load_datalist(write(tmp_path, {"training": [{"kspace": "a.h5"}]}))
    assert "1 volumes name no crop size in a header; that of the stored reference image is used" in caplog.text


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("{", ValueError, "expected a JSON datalist"),
        ([], ValueError, "expected a mapping with training"),
        ({}, ValueError, "expected volumes in 'training', 'validation' or 'test', found none"),
        ({"training": []}, ValueError, "found none"),
        ({"training": {"kspace": "a.h5"}}, ValueError, "'training': expected a list, found dict"),
        ({"training": [{"image": "a.h5"}]}, ValueError, "'training' entry 0: expected a mapping with 'kspace'"),
        ({"test": [{"kspace": "b.h5"}]}, FileNotFoundError, "'test' entry 0: 'kspace': no such file: b.h5"),
        (
            {"training": [{"kspace": "a.h5"}], "test": [{"kspace": "./a.h5"}]},
            ValueError,
            "./a.h5 in test is listed twice: it is the same file as a.h5 in training",
        ),
    ],
)
def test_refusals(tmp_path, content, error, message):
    write_tiny_volume(tmp_path / "a.h5", seed=0)
    with pytest.raises(error, match=message):
        load_datalist(write(tmp_path, content))


def test_missing_datalist(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.json: no such datalist"):
        load_datalist(tmp_path / "nowhere.json")


REQUEST = {"request_id": "r", "reason": "test", "forget": [{"anatomy": "knee"}]}


def test_cohorts(tiny_datalist):
    cohorts = Cohorts(tiny_datalist, REQUEST)
    assert [len(cohorts.retain), len(cohorts.forget), len(cohorts.validation)] == [10, 2, 1]
    assert {name: len(volumes) for name, volumes in cohorts.evaluation().items()} == {"BTA": 2, "KTA": 2, "UA": 2}
    assert cohorts.training(oracle=True) == cohorts.retain
    assert len(cohorts.training(oracle=False)) == 12
    assert set(cohorts.evaluation(["training", "test"])) == {
        "training retain", "training forget", "test retain", "test forget",
    }  # fmt: skip


def test_cohorts_without_a_request(tiny_datalist):
    cohorts = Cohorts(tiny_datalist)
    assert set(cohorts.evaluation()) == {"test"}
    assert set(cohorts.evaluation(["validation"])) == {"validation"}
    assert len(cohorts.training(oracle=False)) == 12
    with pytest.raises(ValueError, match="oracle: expected a forget request"):
        cohorts.training(oracle=True)


def test_empty_cohorts(tmp_path, tiny_datalist):
    write_tiny_volume(tmp_path / "a.h5", seed=0)
    only_test = write(tmp_path, {"test": [{"kspace": "a.h5"}]})
    with pytest.raises(ValueError, match="'training': expected at least one volume, found none"):
        Cohorts(only_test).training(oracle=False)
    write_tiny_volume(tmp_path / "b.h5", seed=1)
    only_training = write(tmp_path, {"training": [{"kspace": "a.h5"}, {"kspace": "b.h5"}]})
    with pytest.raises(ValueError, match="expected volumes to evaluate on, found none in test"):
        Cohorts(only_training).evaluation()
