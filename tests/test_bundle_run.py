"""The folder of a run is all that later verbs are told: --run FOLDER."""

import json
import shutil
from pathlib import Path

import pytest

from scripts.run.errors import own_error
from scripts.run.files import file_sha256
from tests.verbs import SMALL, process_as_before, run

MASK = {"_target_": "scripts.data.RandomMask", "acceleration": 2, "center_fraction": 0.2}
REQUEST = "request_id: R7\nreason: withdrew\nforget:\n- patient_id: P000\n"
QUICK = {"relearning_steps": 0, "resurfacing_share": 0, "statistics#samples": 100, "check_values": False}


@pytest.fixture(scope="session")
def made(tiny_datalist, tmp_path_factory) -> Path:
    """A working directory with a run in outputs/R7 whose network, mask and request are none of the defaults."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(Path(tiny_datalist).parent, home, dirs_exist_ok=True)
    (home / "request.yaml").write_text(REQUEST)
    settings = {"datalist": "datalist.json", "forget_request": "request.yaml", "check_values": False, "mask": MASK}
    settings |= {key: value for key, value in SMALL.items() if key.startswith("network")}
    with pytest.MonkeyPatch.context() as patch, process_as_before():
        patch.chdir(home)
        for oracle in (False, True):
            run("train", output_dir="trained", oracle=oracle, train_epochs=1, **settings)
        unlearn = {"weights": "trained/original.pt", "unlearn_epochs": 1, "evaluate_models": False}
        run("unlearn", "methods/fine_tune.yaml", output_dir="outputs/R7", budget=None, **unlearn, **settings)
    return home


@pytest.fixture
def home(made, tmp_path, monkeypatch) -> Path:
    """A copy of it, from which commands are given."""
    folder = shutil.copytree(made, tmp_path / "home")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MRI_UNLEARNING_KEY", "the key of these tests")
    with process_as_before():
        yield folder


def test_evaluate_measures_the_run_and_nothing_else(home):
    run("evaluate", run="outputs/R7")
    results = json.loads(Path("outputs/R7/evaluate/metrics.json").read_text())
    assert set(results) == {"zero-filled", "original", "oracle", "unlearned"}
    assert set(results["unlearned"]) == {"BTA", "UA"}  # of patient P000 there is no test scan
    assert results["original"] != results["unlearned"]


def test_from_elsewhere_the_same(home, tmp_path, monkeypatch):
    run("evaluate", run="outputs/R7", output_dir="here")
    monkeypatch.chdir(tmp_path)
    run("evaluate", run="home/outputs/R7", output_dir="there")
    assert Path("there/metrics.csv").read_bytes() == Path("home/here/metrics.csv").read_bytes()


def test_weights_have_a_record_beside_them(home):
    run("evaluate", weights="trained/original.pt")
    results = json.loads(Path("outputs/evaluate/metrics.json").read_text())
    assert {model: set(cohorts) for model, cohorts in results.items()} == {
        "zero-filled": {"BTA", "UA"},
        "original": {"BTA", "UA"},
    }
    run("evaluate", run="outputs/R7")
    assert json.loads(Path("outputs/R7/evaluate/metrics.json").read_text())["original"] == results["original"]


def test_audit_and_ship_take_what_the_run_was(home):
    run("audit", run="outputs/R7", **QUICK)
    found = json.loads(Path("outputs/R7/audit/audit.json").read_text())
    assert found["configuration"]["mask"] == MASK
    assert found["configuration"]["network"]["num_cascades"] == 1
    assert found["configuration"]["run_dir"] == "outputs/R7"
    assert found["inputs"]["weights"]["unlearned"]["sha256"] == file_sha256("outputs/R7/unlearned.pt")
    assert found["provenance"]["problems"]["run"] == []
    Path("terms.txt").write_text("made up")
    run("ship", run="outputs/R7", name="tiny", data_source="Bars on discs.", data_license="terms.txt")
    shipped = Path("outputs/ship/tiny")
    assert file_sha256(shipped / "models" / "model.pt") == file_sha256("outputs/R7/unlearned.pt")
    assert (shipped / "docs" / "certificate.json").is_file()
    assert json.loads((shipped / "configs" / "inference.json").read_text())["network_def"]["num_cascades"] == 1


@pytest.mark.parametrize("verb", ["evaluate", "audit"])
@pytest.mark.parametrize(
    ("overrides", "ours", "theirs"),
    [
        ({"network#num_cascades": 2}, "num_cascades 1", "num_cascades 2"),
        ({"mask": {**MASK, "acceleration": 4}}, "acceleration 2", "acceleration 4"),
        ({"datalist": "other.json"}, "expected that of the run", "other.json ("),
        ({"forget_request#forget": [{"anatomy": "knee"}]}, '"patient_id": "P000"', '"anatomy": "knee"'),
    ],
)
def test_what_differs_is_refused_with_both(home, verb, overrides, ours, theirs):
    lists = json.loads(Path("datalist.json").read_text())
    Path("other.json").write_text(json.dumps({**lists, "test": lists["test"][:1]}))
    if "forget_request#forget" in overrides:  # a mapping is needed to change a part of it
        overrides = {"forget_request": {"request_id": "R7", "reason": "withdrew", "forget": [{"anatomy": "knee"}]}}
    with pytest.raises(RuntimeError) as error:
        run(verb, run="outputs/R7", **overrides)
    told = str(own_error(error.value))
    assert ours in told
    assert theirs in told
    assert not list(Path().rglob("metrics.csv"))


@pytest.mark.parametrize("verb", ["evaluate", "audit", "ship"])
def test_without_a_run_nothing_is_measured(home, verb):
    with pytest.raises(RuntimeError) as error:
        run(verb)
    assert f"{verb}: expected --run FOLDER" in str(own_error(error.value))
    assert str(own_error(error.value)).endswith("add --run outputs/R7")


def test_weights_that_were_exchanged_are_refused(home):
    shutil.copyfile("trained/original.pt", "outputs/R7/unlearned.pt")
    for verb in ("evaluate", "audit", "ship"):
        with pytest.raises(RuntimeError) as error:
            run(verb, run="outputs/R7")
        assert "'unlearned_weights': expected outputs/R7/unlearned.pt with SHA-256" in str(own_error(error.value))
