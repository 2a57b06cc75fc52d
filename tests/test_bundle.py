"""The verbs, run through monai.bundle on tiny data from another working directory."""

import csv
import json
import math
import re
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from scripts.run.errors import own_error
from scripts.run.files import file_sha256
from tests.verbs import CONFIGS, SMALL, run, unlearn, without_record

METHODS = sorted(path.stem for path in (CONFIGS / "methods").glob("*.yaml"))
VERBS = ("train", "unlearn", "evaluate", "simulate", "audit", "preview")


pytestmark = pytest.mark.usefixtures("contained")


def test_train_leaves_out_the_forget_set_for_the_oracle(trained):
    original, oracle = (json.loads((trained / f"{name}.json").read_text()) for name in ("original", "oracle"))
    assert [record["data"]["training"]["slices"] for record in (original, oracle)] == [24, 20]
    assert not any("knee" in entry["volume"] for entry in oracle["data"]["training"]["volumes"])
    assert original["cost"]["backward_slices"] == 48
    assert original["weights_out"]["sha256"] == file_sha256(trained / "original.pt")
    assert (trained / "tensorboard").is_dir()
    assert (trained / "original.log").is_file()


@pytest.fixture(scope="session")
def unlearned(tiny_datalist, trained, tmp_path_factory) -> dict[str, Path]:
    """Every method of the overlays, one epoch each."""
    root = tmp_path_factory.mktemp("unlearned")
    settings = {"evaluate_models": False}
    return {name: unlearn(tiny_datalist, trained, str(root / name), name, **settings) for name in METHODS}


def test_every_method_gives_other_weights(unlearned, trained):
    digests = {name: file_sha256(path / "unlearned.pt") for name, path in unlearned.items()}
    digests["original"] = file_sha256(trained / "original.pt")
    # all forget samples go as a kind, so the targets per scan are gain targets
    assert digests.pop("target_per_scan") == digests["gain_target"]
    assert len(set(digests.values())) == len(METHODS)


def test_each_method_reads_what_its_definition_says(unlearned):
    reads = {}
    for name, path in unlearned.items():
        record = json.loads((path / "unlearned.json").read_text())
        assert record["method"] == name
        reads[name] = (record["data"]["retain"]["slices"], record["cost"]["steps"], record["cost"]["backward_slices"])
    # tiny data: 10 retain volumes and 2 forget volumes of 2 slices; 10 % is one volume
    assert reads["fine_tune"] == (2, 4, 4)
    assert reads["full_fine_tune"] == (20, 20, 20)
    for name in ("gradient_ascent", "noisy_label"):
        assert reads[name] == (0, 4, 4)
    for name in ("gradient_ascent_ft", "noisy_label_ft"):
        assert reads[name] == (2, 4, 8)
    # of the 40 passes of a training on the retained scans these take a half
    for name in ("reset_and_heal", "reset_and_distil", "fresh_weights"):
        assert reads[name] == (2, 20, 20)
    assert reads["mirror_image"] == (2, 3, 6)
    for name in ("gain_target", "mirror_target", "target_per_scan"):
        assert reads[name] == (2, 4, 8)
    # more backward passes: 4 of a blind teacher, or 6 of both sets' gradients
    assert reads["blindspot"] == (2, 4, 12)
    assert reads["scrub"] == (2, 4, 8)
    assert reads["ssd"] == (2, 0, 6)


def test_fresh_weights_keep_nothing_of_the_original(tiny_datalist, trained):
    """Begun from other weights, the run ends with the same ones."""
    settings = {"evaluate_models": False, "enter_in_ledger": False, "budget": None}
    outputs = [
        unlearn(tiny_datalist, trained, name, "fresh_weights", weights=str(trained / f"{name}.pt"), **settings)
        for name in ("original", "oracle")
    ]
    assert len({file_sha256(output / "unlearned.pt") for output in outputs}) == 1


def test_a_budget_is_the_share_of_trainings_passes_that_is_spent(tiny_datalist, trained):
    """A training on the retained scans takes 40 passes; gain_target takes two a step, and no more than it may."""
    spent = {}
    for method, budget in (("reset_and_heal", 0.5), ("gain_target", 0.5), ("gain_target", 0.2)):
        settings = {"budget": budget, "unlearn_epochs": 2, "evaluate_models": False}
        output = unlearn(tiny_datalist, trained, f"{method}_{budget}", method, **settings)
        record = json.loads((output / "unlearned.json").read_text())
        assert (record["budget"], record["training_passes"]) == (budget, 40)
        spent[method, budget] = record["cost"]["backward_slices"]
    assert spent == {("reset_and_heal", 0.5): 20, ("gain_target", 0.5): 20, ("gain_target", 0.2): 8}


def test_a_mixed_request_gets_a_target_for_each_scan(tiny_datalist, trained):
    """All knees and one brain patient: the knees go as a kind, the patient as one of many."""
    brain = json.loads(Path(tiny_datalist).read_text())["training"][0]["kspace"]
    request = {"request_id": "both", "reason": "", "forget": [{"anatomy": "knee"}, {"kspace": brain}]}
    settings = {"evaluate_models": False, "forget_request": request}
    output = unlearn(tiny_datalist, trained, "mixed", "target_per_scan", **settings)
    record = json.loads((output / "unlearned.json").read_text())
    assert [entry["volume"] for entry in record["data"]["forget"]["volumes"]] == [brain, "knee_010.h5", "knee_011.h5"]


def test_unlearn_default(tiny_datalist, trained, tmp_path):
    output = unlearn(tiny_datalist, trained)
    names = {path.name for path in output.iterdir()}
    assert names == {
        "ledger.jsonl", "ledger.key", "metrics.csv", "metrics.json", "panels.png", "report.html", "table.md",
        "tensorboard", "unlearn.log",
        "unlearned.json", "unlearned.pt",
    }  # fmt: skip
    record = json.loads((output / "unlearned.json").read_text())
    assert record["weights_in"]["sha256"] == file_sha256(trained / "original.pt")
    assert record["weights_out"]["sha256"] == file_sha256(output / "unlearned.pt")
    assert record["forget_request"]["forget"] == [{"anatomy": "knee"}]
    assert set(record["data"]) == {"retain"}
    assert all(len(entry["sha256"]) == 64 for entry in record["data"]["retain"]["volumes"])
    assert record["configuration"]["unlearn_epochs"] == 1
    assert record["environment"]["packages"]["monai"]
    assert set(record["results"]) == {"zero-filled", "original", "oracle", "unlearned"}
    with open(output / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 6
    mean = sum(float(r["psnr"]) for r in rows if (r["model"], r["cohort"]) == ("original", "BTA")) / 2
    assert math.isclose(record["results"]["original"]["BTA"]["psnr"]["mean"], mean, rel_tol=1e-9)
    assert "| unlearned |" in (output / "table.md").read_text()
    assert "reads retain: 1 volumes, 2 slices" in (output / "unlearn.log").read_text()


def test_the_oracle_may_be_absent(tiny_datalist, trained, tmp_path):
    lonely = tmp_path / "weights.pt"
    lonely.write_bytes((trained / "original.pt").read_bytes())
    output = unlearn(tiny_datalist, trained, weights=str(lonely))
    assert set(json.loads((output / "metrics.json").read_text())) == {"zero-filled", "original", "unlearned"}


def test_one_seed_gives_bit_identical_weights(tiny_datalist, trained):
    digests = [
        file_sha256(unlearn(tiny_datalist, trained, str(i), seed=seed, evaluate_models=False) / "unlearned.pt")
        for i, seed in enumerate((3, 3, 4))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_evaluate(tiny_datalist, trained):
    run("evaluate", datalist=tiny_datalist, weights=str(trained / "oracle.pt"), output_dir="a", **SMALL)
    results = json.loads(Path("a/metrics.json").read_text())
    assert {model: set(cohorts) for model, cohorts in results.items()} == {
        "zero-filled": {"BTA", "KTA", "UA"},
        "oracle": {"BTA", "KTA", "UA"},
    }
    weights = {"first": str(trained / "original.pt"), "second": str(trained / "original.pt")}
    run("evaluate", datalist=tiny_datalist, weights=weights, sections=["validation"], forget_request=False,
        output_dir="b", **SMALL)  # fmt: skip
    results = json.loads(Path("b/metrics.json").read_text())
    assert results["first"] == results["second"]
    assert set(results["first"]) == {"validation"}


def test_batches_of_slices_give_the_same_table(tiny_datalist, trained):
    for name, size in (("one", 1), ("four", 4)):
        weights = str(trained / "original.pt")
        run("evaluate", datalist=tiny_datalist, weights=weights, output_dir=name, batch_size=size, **SMALL)
    one, four = (json.loads(Path(f"{name}/metrics.json").read_text()) for name in ("one", "four"))
    for cohort in one["original"]:
        assert one["original"][cohort]["psnr"]["mean"] == pytest.approx(
            four["original"][cohort]["psnr"]["mean"], rel=1e-5
        )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"retain_fracton": 0.5}, "override key 'retain_fracton': not in the configuration; did you mean 'retain_fra"),
        ({"network#num_cascade": 2}, "num_cascade"),
        ({"retain_fraction": 0.0}, "'retain_fraction': expected a number above 0 and at most 1, found 0.0"),
        ({"retain_fraction": 1.5}, "'retain_fraction': expected a number above 0 and at most 1, found 1.5"),
        (
            {"network#num_cascades": 2},
            r"original.pt: weights of another network: expected num_cascades 1 .*found num_cascades 2",
        ),
        ({"weights": "nowhere.pt"}, "nowhere.pt"),
        ({"oracle_weights": "nowhere.pt"}, "nowhere.pt"),
        ({"datalist": "nowhere.json"}, "nowhere.json: no such datalist"),
        ({"mask#acceleration": 40}, "'acceleration': expected at most the width, 30"),
        ({"forget_request#forget": [{"anatomy": "hip"}]}, "selects none of 12 training volumes"),
        ({"forget_request#forget": [{"anatomy": "*"}]}, "selects all 12 training volumes"),
        ({"forget_request": "nowhere.yaml"}, "nowhere.yaml: no such forget request"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tiny_datalist, trained, overrides, message):
    with pytest.raises(RuntimeError) as error:
        unlearn(tiny_datalist, trained, **overrides)
    assert re.search(message, str(own_error(error.value)))
    assert list(Path().iterdir()) == []


def test_simulated_data_goes_through_the_other_verbs(tmp_path, monkeypatch):
    monkeypatch.setenv("MRI_UNLEARNING_CACHE", str(tmp_path / "cache"))
    run("simulate", matrix=[32, 32], num_coils=2, slices_per_volume=4)
    settings = {"datalist": "outputs/simulate/datalist.json", **SMALL}
    run("train", train_epochs=1, **settings)
    unlearn_settings = {"weights": "outputs/train/original.pt", "retain_fraction": 0.25, "unlearn_epochs": 1}
    run("unlearn", prior_passes=10, **unlearn_settings, **settings)
    run("evaluate", weights="outputs/demo-knee/unlearned.pt", **settings)
    results = json.loads(Path("outputs/evaluate/metrics.json").read_text())
    assert set(results["unlearned"]) == {"BTA", "KTA", "UA"}


def test_what_verbs_share_is_the_same_everywhere():
    """MONAI resolves file references against the working directory, so shared blocks stand in each verb's file."""
    configs = {verb: ConfigParser.load_config_file(CONFIGS / f"{verb}.yaml") for verb in VERBS}
    shared = (
        "device",
        "datalist",
        "forget_request",
        "data",
        "network",
        "mask",
        "check_values",
        "seed",
    )
    for key in (*shared, "loss_function"):
        verbs = [verb for verb in VERBS if configs[verb].get(key) not in (None, {})]  # others take it from the run
        assert len({json.dumps(configs[verb][key], sort_keys=True) for verb in verbs}) == 1, key


@pytest.mark.parametrize("verb", ["train", "unlearn", "evaluate"])
def test_paper_overlay(verb):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{verb}.yaml"), str(CONFIGS / "paper.yaml")])
    network = parser.get_parsed_content("network")
    assert sum(weight.numel() for weight in network.parameters()) == 29_936_966
    mask = parser.get_parsed_content("mask")
    assert (mask.acceleration, mask.center_fraction) == (8, 0.04)
    if verb != "evaluate":
        assert isinstance(parser.get_parsed_content("lr_scheduler"), torch.optim.lr_scheduler.ConstantLR)


def test_unet_baseline(tiny_datalist, tmp_path, monkeypatch):
    monkeypatch.setenv("MRI_UNLEARNING_CACHE", str(tmp_path / "cache"))
    run("train", "unet.yaml", datalist=tiny_datalist, train_epochs=1, **{"network#chans": 4, "network#pools": 2})
    run("unlearn", "unet.yaml", datalist=tiny_datalist, weights="outputs/train/original.pt", unlearn_epochs=1,
        train_epochs=1, prior_passes=10, **{"network#chans": 4, "network#pools": 2})  # fmt: skip
    assert set(json.loads(Path("outputs/demo-knee/metrics.json").read_text())) == {
        "zero-filled",
        "original",
        "unlearned",
    }


def test_weights_that_are_not_finite_are_refused_before_anything_is_written(tiny_datalist, trained, tmp_path):
    state = torch.load(trained / "original.pt", weights_only=True)
    torch.save({key: value * float("nan") for key, value in state.items()}, tmp_path / "nan.pt")
    with pytest.raises(RuntimeError) as error:
        run("evaluate", **without_record("evaluate", tiny_datalist), weights=str(tmp_path / "nan.pt"))
    assert re.search(r"nan.pt: expected tensors of finite numbers: \d+ with NaN or Inf", str(own_error(error.value)))
    assert not Path("outputs").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the packages that mlflow stands on
def test_mlflow_tracking(tiny_datalist, trained):
    mlflow = pytest.importorskip("mlflow")
    unlearn(tiny_datalist, trained, tracking="mlflow", evaluate_models=False)
    mlflow.set_tracking_uri("sqlite:///out/mlruns.db")
    assert len(mlflow.search_runs(search_all_experiments=True)) >= 1
