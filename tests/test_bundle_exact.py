"""Exact forgetting: what goes in does not matter, what was forgotten need not be there, and anyone can repeat it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts.networks.weights import read_state, write_state
from scripts.run.config import quoted
from scripts.run.errors import own_error
from scripts.run.files import file_sha256
from tests.verbs import CONFIGS, SMALL, run, unlearn

pytestmark = pytest.mark.usefixtures("contained")
QUICK = {"evaluate_models": False}


@pytest.fixture(scope="module")
def exact(tiny_datalist, trained, tmp_path_factory) -> Path:
    """A run of the default."""
    folder = tmp_path_factory.mktemp("exact") / "demo-knee"
    return unlearn(tiny_datalist, trained, str(folder), evaluate_models=False, train_epochs=4)


def record_of(folder: Path) -> dict:
    return json.loads((folder / "unlearned.json").read_text())


def repeated(tiny_datalist, trained, **settings) -> str:
    """SHA-256 of the weights of the fixture `exact`'s command, run once more with other settings."""
    folder = unlearn(tiny_datalist, trained, **{**QUICK, "train_epochs": 4, **settings})
    assert record_of(folder)["forgetting"] == "exact"
    return file_sha256(folder / "unlearned.pt")


@pytest.mark.parametrize("start", ["original", "oracle", "random", "none"])
def test_the_weights_that_it_is_given_leave_no_trace(exact, tiny_datalist, trained, start):
    weights = trained / f"{start}.pt"
    if start == "random":
        weights = Path("random.pt")
        shapes = read_state(trained / "original.pt")
        write_state({key: torch.randn_like(value.float()).to(value.dtype) for key, value in shapes.items()}, weights)
    expected = file_sha256(exact / "unlearned.pt")
    assert repeated(tiny_datalist, trained, weights=False if start == "none" else str(weights)) == expected
    assert expected != file_sha256(trained / "prior.pt")


def test_without_the_forgotten_scans_the_same_command_gives_the_same_bits(exact, tiny_datalist, trained):
    data = Path(shutil.copytree(Path(tiny_datalist).parent, "data"))
    lists = json.loads((data / "datalist.json").read_text())
    gone = [entry for section in lists.values() for entry in section if entry["anatomy"] == "knee"]
    for section, entries in lists.items():
        lists[section] = [entry for entry in entries if entry not in gone]
    for entry in gone:
        (data / entry["kspace"]).unlink()
    ledger = unlearn(tiny_datalist, trained, "before", **QUICK) / "ledger.jsonl"  # knows the request
    (data / "datalist.json").write_text(json.dumps(lists))
    found = repeated(str(data / "datalist.json"), trained, output="after", ledger=str(ledger))
    assert found == file_sha256(exact / "unlearned.pt")


def test_a_request_whose_scans_are_only_in_the_test_list_changes_nothing(exact, tiny_datalist, trained):
    lists = json.loads(Path(tiny_datalist).read_text())
    for entries in lists.values():
        for entry in entries:
            entry["kspace"] = str(Path(tiny_datalist).with_name(entry["kspace"]))
    lists["training"] = [entry for entry in lists["training"] if entry["anatomy"] != "knee"]
    Path("datalist.json").write_text(json.dumps(lists))
    assert repeated("datalist.json", trained) == file_sha256(exact / "unlearned.pt")


def test_the_record_says_what_the_loaders_opened(exact, tiny_datalist, trained):
    record = record_of(exact)
    retained = [entry["sha256"] for entry in record["data"]["retain"]["volumes"]]
    assert [scan["sha256"] for scan in record["opened"]["scans"]] == retained
    assert sum(scan["slices"] for scan in record["opened"]["scans"]) == record["cost"]["backward_slices"] == 40
    assert [weights["sha256"] for weights in record["opened"]["weights"]] == [file_sha256(trained / "prior.pt")]
    assert record["prior"]["shown"]


def test_workers_report_what_they_opened(exact, tiny_datalist, trained):
    folder = unlearn(tiny_datalist, trained, num_workers=1, train_epochs=4, **QUICK)
    opened, expected = (record_of(one)["opened"]["scans"] for one in (folder, exact))
    assert [scan["sha256"] for scan in opened] == [scan["sha256"] for scan in expected]


def test_watching_changes_no_bit_and_is_told(exact, tiny_datalist, trained, capsys):
    assert repeated(tiny_datalist, trained, evaluate_models=True) == file_sha256(exact / "unlearned.pt")
    events = EventAccumulator("out/tensorboard").Reload()
    assert {"unlearning_loss", "rate", "held_out_psnr", "held_out_ssim"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("held_out_psnr")) == 1  # one part
    text = " ".join(capsys.readouterr().out.split())
    assert "Forgot 2 knee scans exactly (restarted from a clean prior, 1 of 10 retained scans" in text
    assert "Saved out; read out/report.html." in text
    assert "run replay --config_file" in text
    assert "--run out" in text
    assert "input summary" not in text
    assert "input summary" in Path("out/unlearn.log").read_text()
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert file_sha256(exact / "unlearned.pt") in page
    assert "brain_0" not in page  # no name of a scan


def test_methods_that_change_the_original_are_approximate(tiny_datalist, trained):
    record = record_of(unlearn(tiny_datalist, trained, overlay="gradient_ascent_ft", **QUICK))
    assert record["forgetting"] == "approximate"
    assert any("knee" in reason and "was opened" in reason for reason in record["not_exact_because"])
    assert any("original.pt were read" in reason for reason in record["not_exact_because"])


def test_a_method_that_changes_the_original_makes_no_prior(tiny_datalist, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("MRI_UNLEARNING_CACHE", str(tmp_path / "cache"))
    assert record_of(unlearn(tiny_datalist, trained, overlay="fine_tune", prior=None, **QUICK))["prior"] is None
    assert not (tmp_path / "cache" / "priors").exists()


def test_a_restart_that_reads_forgotten_scans_is_not_called_exact(tiny_datalist, trained):
    settings = {"retain_sampler#dataset#volumes": "$@data.sections['training']", "retain_fraction": 1.0, **QUICK}
    record = record_of(unlearn(tiny_datalist, trained, **settings))
    assert record["forgetting"] == "approximate"
    assert any("knee" in reason for reason in record["not_exact_because"])


def test_an_own_handler_is_not_called_exact(tiny_datalist, trained):
    method = [
        {"_target_": "scripts.unlearning.Restart", "prior": "@start"},
        {"_target_": "GarbageCollector", "trigger_event": "epoch"},
    ]
    record = record_of(unlearn(tiny_datalist, trained, method_name="mine", method=method, **QUICK))
    assert record["not_exact_because"] == ["GarbageCollector is not known to read nothing but retained scans"]


def test_replay_gives_the_same_bits(exact, capsys):
    run("replay", run=str(exact))
    assert f"Replayed {exact}: the same bits" in capsys.readouterr().out
    assert json.loads((exact / "replay" / "replay.json").read_text())["verdict"] == "same bits"


def altered(exact: Path, change) -> Path:
    """A copy of the run whose record is changed."""
    folder = Path(shutil.copytree(exact, "altered"))
    record = record_of(folder)
    change(record)
    (folder / "unlearned.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda record: record["command"]["changes"].update(seed=7), "seed: found 7, recorded 0"),
        (lambda record: record["command"]["changes"].update(budget=0.25), "budget: found 0.25, recorded 0.5"),
        (lambda record: record["opened"]["scans"][0].update(sha256="0" * 64), "opened#scans#0#sha256"),
        (lambda record: record["command"]["changes"].update(mask={"_target_": "scripts.data.RandomMask",
         "acceleration": 3, "center_fraction": 0.12}), "mask"),
    ],
    ids=["seed", "budget", "scan", "mask"],
)  # fmt: skip
def test_replay_names_what_is_not_as_recorded(exact, change, named):
    folder = altered(exact, change)
    if named.startswith("opened"):  # the weights come out the same: the record is contradicted all the same
        run("replay", run=str(folder))
        result = json.loads((folder / "replay" / "replay.json").read_text())
        assert named in [entry["field"] for entry in result["differences"]]
        return
    with pytest.raises(RuntimeError) as error:
        run("replay", run=str(folder))
    assert named in str(own_error(error.value))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": "$__import__('pathlib').Path('ran').touch()"}, "'seed': expected a plain value"),
        ({"initialize": ["$__import__('pathlib').Path('ran').touch()"]}, "'initialize#0': expected a plain value"),
        ({"network": {"_target_": "os.system", "command": "touch ran"}}, "'network': '_target_'.*'os.system'"),
        ({"mask": {"_target_": "scripts.data.RandomMask", "_requires_": "x"}}, "'mask': expected plain arguments"),
    ],
    ids=["a setting", "the verb's steps", "a component", "what a component requires"],
)
def test_replay_runs_no_code_of_a_record(exact, changes, named):
    with pytest.raises(RuntimeError) as error:
        run("replay", run=str(altered(exact, lambda record: record["command"]["changes"].update(changes))))
    assert re.search(rf"unlearned\.json: {named}", str(own_error(error.value)))
    assert not list(Path().rglob("ran"))


def test_replay_runs_no_code_of_a_config_file_that_came_with_a_record(exact):
    def add(record):
        file = Path("came.yaml").absolute()
        file.write_text("seed: $__import__('pathlib').Path('ran').touch()\n")
        record["command"]["files"].append({"file": str(file), "sha256": file_sha256(file)})

    with pytest.raises(RuntimeError) as error:
        run("replay", run=str(altered(exact, add)))
    assert "came.yaml: 'seed': expected a plain value" in str(own_error(error.value))
    assert not list(Path().rglob("ran"))


def test_replay_refuses_other_weights(exact):
    folder = altered(exact, lambda record: None)
    state = read_state(folder / "unlearned.pt")
    write_state({key: value + 1e-6 for key, value in state.items()}, folder / "unlearned.pt")
    with pytest.raises(RuntimeError) as error:
        run("replay", run=str(folder))
    assert f"{folder / 'unlearned.pt'}: expected SHA-256" in str(own_error(error.value))


def test_another_environment_is_not_comparable(exact, capsys):
    def elsewhere(record):
        record["environment"]["processor"] = "another"
        record["command"]["changes"]["seed"] = record["seed"] = 7

    run("replay", run=str(altered(exact, elsewhere)))
    out = capsys.readouterr().out
    assert "not comparable" in out
    assert "environment#processor" in out


def test_a_replay_finds_scans_and_prior_elsewhere(exact, tiny_datalist, trained, capsys):
    data = shutil.copytree(Path(tiny_datalist).parent, "moved")
    prior = shutil.copytree(trained, "moved prior") + "/prior.pt"
    run("replay", run=str(exact), datalist=f"{data}/datalist.json", prior=prior)
    assert "the same bits" in capsys.readouterr().out


def test_a_run_whose_paths_hold_a_hash_is_replayed(tiny_datalist, trained, capsys):
    data = shutil.copytree(Path(tiny_datalist).parent, "data#2")
    folder = unlearn(quoted(f"{data}/datalist.json"), trained, "run", **QUICK)  # as from the command line
    run("replay", run=str(folder))
    assert "the same bits" in capsys.readouterr().out


def with_record(trained: Path, change) -> str:
    """The prior with another record."""
    shutil.copy(trained / "prior.pt", "prior.pt")
    record = json.loads((trained / "prior.json").read_text())
    change(record)
    Path("prior.json").write_text(json.dumps(record))
    return "prior.pt"


def opened(record):
    record["opened"]["scans"] = [{"volume": "knee_001", "sha256": "0" * 64, "slices": 2}]


@pytest.mark.parametrize(
    ("prior", "named"),
    [
        (lambda trained: str(trained / "original.pt"), "expected the record of a training that opened generic images"),
        (lambda trained: "nowhere.pt", "nowhere.pt: no such weights file"),
        (lambda trained: shutil.copy(trained / "prior.pt", "bare.pt"), "expected a record beside it, bare.json"),
        (lambda trained: with_record(trained, opened), "found 1 scans"),
        (lambda trained: with_record(trained, lambda r: r.pop("opened")), "that does not show it"),
        (lambda trained: with_record(trained, lambda r: r["configuration"]["mask"].update(acceleration=8)), "'mask'"),
        (lambda trained: with_record(trained, lambda r: r["configuration"].update(precision="bf16")), "'precision'"),
        (lambda trained: with_record(trained, lambda r: r["configuration"]["network"].update(chans=8)), "'network'"),
    ],
    ids=["original", "missing", "no record", "scans", "unknown", "mask", "precision", "network"],
)
def test_what_cannot_be_a_prior_is_refused_before_work(tiny_datalist, trained, prior, named):
    with pytest.raises((RuntimeError, ValueError)) as error:
        unlearn(tiny_datalist, trained, prior=prior(trained), **QUICK)
    assert named in str(own_error(error.value))
    assert not Path("out").exists()


def test_a_prior_that_lacks_a_parameter_or_holds_nan_is_refused(tiny_datalist, trained):
    state = read_state(trained / "prior.pt")
    first = next(iter(state))
    for name, wrong in {"short.pt": {k: v for k, v in state.items() if k != first},
                        "nan.pt": {**state, first: state[first] * float("nan")}}.items():  # fmt: skip
        write_state(wrong, name)
        declared = {"name": "public", "sha256": file_sha256(name)}
        with pytest.raises((RuntimeError, ValueError)) as error:
            unlearn(tiny_datalist, trained, name[:-3], prior=name, declared_prior=declared, **QUICK)
        assert name in str(own_error(error.value))
        assert ("1 missing" if name == "short.pt" else "NaN") in str(own_error(error.value))


def test_a_declared_prior_is_said_to_be_declared(tiny_datalist, trained):
    shutil.copy(trained / "prior.pt", "public.pt")
    declared = {"name": "a public checkpoint", "sha256": file_sha256("public.pt")}
    record = record_of(unlearn(tiny_datalist, trained, prior="public.pt", declared_prior=declared, **QUICK))
    assert record["forgetting"] == "exact"
    assert record["prior"]["declared"] == "a public checkpoint"
    assert "shown" not in record["prior"]


def test_the_original_declared_as_its_own_prior_is_refused_under_other_bytes(tiny_datalist, trained):
    write_state({f"module.{key}": value for key, value in read_state(trained / "original.pt").items()}, "copy.pt")
    declared = {"name": "mine", "sha256": file_sha256("copy.pt")}
    with pytest.raises((RuntimeError, ValueError)) as error:
        unlearn(tiny_datalist, trained, prior="copy.pt", declared_prior=declared, **QUICK)
    assert "found the original's" in str(own_error(error.value))


def test_a_prior_is_made_once_where_there_is_none(tiny_datalist, trained, monkeypatch):
    monkeypatch.setenv("MRI_UNLEARNING_CACHE", str(Path("cache").absolute()))
    first, second = (unlearn(tiny_datalist, trained, name, prior=None, prior_passes=20, **QUICK) for name in "ab")
    assert file_sha256(first / "unlearned.pt") == file_sha256(second / "unlearned.pt")
    assert len(list(Path("cache/priors").rglob("prior.pt"))) == 1
    assert record_of(second)["prior"]["shown"]


def test_a_second_request_restarts_without_what_was_erased_before(tiny_datalist, trained):
    first = {"request_id": "first", "reason": "consent", "forget": [{"patient_id": "P000"}]}
    second = {"request_id": "second", "reason": "consent", "forget": [{"anatomy": "knee"}]}
    ledger = str(Path("ledger.jsonl").absolute())
    settings = {"retain_fraction": 1.0, "ledger": ledger, **QUICK}
    unlearn(tiny_datalist, trained, "first", forget_request=first, **settings)
    record = record_of(unlearn(tiny_datalist, trained, "second", forget_request=second, **settings))
    assert record["forgetting"] == "exact"
    assert {"brain_000", "knee_010", "knee_011"} & {scan["volume"] for scan in record["opened"]["scans"]} == set()
    assert len(record["opened"]["scans"]) == 9


def test_deterministic_runs_ignore_what_the_processor_offers(tiny_datalist, trained):
    digests = set()
    for name, variables in {
        "a": {},
        "b": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "OMP_NUM_THREADS": "2"},
    }.items():
        settings = {"datalist": tiny_datalist, "prior": trained / "prior.pt", "weights": False, "ledger": False,
                    "evaluate_models": False, "deterministic": True, "unlearn_epochs": 1, "train_epochs": 2,
                    "output_dir": name, **SMALL}  # fmt: skip
        words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        command = [sys.executable, "-m", "monai.bundle", "run", "unlearn", "--config_file", CONFIGS / "unlearn.yaml"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, CONFIGS.parents[:2])), **variables}
        subprocess.run([*map(str, command), *words], env=environment, check=True, capture_output=True, timeout=1200)
        record = record_of(Path(name))
        assert record["environment"]["numerics"]["instructions"] == "DEFAULT"
        assert not record["environment"]["numerics"]["onednn"]
        assert record["environment"]["threads"] == 1
        digests.add(record["weights_out"]["sha256"])
    assert len(digests) == 1
