"""The whole study on tiny data: what it leaves, how it goes on after SIGKILL, what it refuses."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.protocol.plan import verb_settings
from scripts.run.errors import own_error
from tests.protocol.conftest import STUDY, at_work, protocol, records, table, untimed
from tests.verbs import CONFIGS, run

pytestmark = pytest.mark.usefixtures("contained")

CELLS = 4 + 3 + 1 + 2


def test_a_study_leaves_cells_tables_figures_and_a_report(finished):
    assert len(records(finished)) == CELLS
    assert {row["status"] for row in table(finished, "cells")} == {"finished"}
    names = {path.stem for path in (finished / "figures").iterdir()}
    assert names == {"panels", "radar", "pareto", "retain_fraction", "frontier"}
    assert {path.stem for path in (finished / "tables").iterdir()} >= {"quality", "gaps", "efficiency", "knowledge_gap"}
    html = (finished / "report.html").read_text()
    assert not re.search(r"(src|href)=[\"']?(https?:|//|file:)", html)
    assert "demo-knee" in html


def test_every_number_leads_to_a_record(finished):
    for name in ("quality", "gaps", "efficiency", "knowledge_gap", "retain_fraction"):
        rows = table(finished, name)
        assert rows
        for row in rows:
            assert all((finished / file).is_file() for file in row["records"].split("; "))
    row = next(r for r in table(finished, "quality") if (r["model"], r["cohort"], r["metric"]) == ("FT", "KTA", "psnr"))
    with open((finished / row["records"]).parent / "evaluation" / "metrics.csv", newline="") as file:
        values = [float(r["psnr"]) for r in csv.DictReader(file) if (r["model"], r["cohort"]) == ("model", "KTA")]
    assert float(row["mean"]) == pytest.approx(sum(values) / len(values), rel=1e-12)


def test_trained_models_read_what_they_should(finished):
    reads = {role: json.loads((finished / f"cells/{role}/seed-0/cell.json").read_text())["slices_read"]
             for role in ("original", "oracle", "forget_only")}  # fmt: skip
    assert reads == {"original": {"training": 24}, "oracle": {"training": 20}, "forget_only": {"training": 4}}


def test_a_budget_is_kept_and_what_training_on_alone_gives_is_measured(finished):
    for budget in (0.5, 1.0):
        cell = finished / f"cells/fine_tune/budget-{budget:g}/seed-0"
        assert 0 < json.loads((cell / "cell.json").read_text())["cost"]["backward_slices"] <= budget * 24
        assert not (cell / "later").exists()
    with open(finished / "cells/oracle/seed-1/evaluation/metrics.csv", newline="") as file:
        assert {row["model"] for row in csv.DictReader(file)} == {"zero-filled", "model", "later"}
    rows = table(finished, "frontier")
    assert {(r["model"], r["budget"], r["state"]) for r in rows} == {
        ("FT", budget, state) for budget in ("0.5", "1.0") for state in ("delivered", "later")
    }
    delivered, later = ([r["gap"] for r in rows if r["state"] == state] for state in ("delivered", "later"))
    assert delivered != later


def test_finished_cells_are_not_run_again(finished, tiny_datalist, tmp_path):
    output = tmp_path / "copy"
    shutil.copytree(finished, output)
    shutil.rmtree(output / "cells/noisy_label")
    before = {path: path.stat().st_mtime_ns for path in records(output)}
    protocol(tiny_datalist, output)
    assert len(records(output)) == CELLS
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert untimed(output) == untimed(finished)


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_killed_study_goes_on_to_the_same_result(finished, tiny_datalist, tmp_path):
    output = tmp_path / "killed"
    settings = {"config_file": str(CONFIGS / "protocol.yaml"), "datalist": tiny_datalist, "output_dir": output, **STUDY}
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "protocol"]
    command += [text for key, value in settings.items() for text in (f"--{key}", str(value))]
    for moment in (0, 3, 6):  # killed while the next cell is at work
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 120
            while not (len(records(output)) >= moment and at_work(output)) and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert process.poll() is None
            process.send_signal(signal.SIGKILL)
    assert len(records(output)) < CELLS
    protocol(tiny_datalist, output)
    assert untimed(output) == untimed(finished)
    for weights in (finished / "cells").rglob("*.pt"):
        assert weights.read_bytes() == (output / weights.relative_to(finished)).read_bytes()


def test_a_failed_cell_is_reported_and_stops_no_other(finished, tiny_datalist, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(finished / "cells/original", output / "cells/original")
    shutil.copytree(finished / "cells/oracle", output / "cells/oracle")
    shutil.copytree(finished / "cells/forget_only", output / "cells/forget_only")
    configs = tmp_path / "configs"
    shutil.copytree(CONFIGS, configs, ignore=shutil.ignore_patterns("metadata.json"))  # with it, a bundle's folder
    broken = "method_name: broken\nmethod:\n- {_target_: scripts.unlearning.NoisyLabel, std: -1.0}\n"
    (configs / "methods/broken.yaml").write_text(broken)
    with pytest.raises(RuntimeError) as error:
        protocol(tiny_datalist, output, methods=["broken", "noisy_label"], fraction_methods=[],
                 budget_methods=["noisy_label"],
                 configs=str(configs))  # fmt: skip
    assert "1 of 8 cells did not finish" in str(own_error(error.value))
    status = {row["cell"]: (row["status"], row["error"]) for row in table(output, "cells")}
    assert status["noisy_label/fraction-0/seed-0"] == ("finished", "")
    assert status["broken/fraction-0.1/seed-0"] == (
        "failed",
        "ValueError: 'method#0#std': expected a number above 0, found -1.0",
    )
    html = (output / "report.html").read_text()
    assert "found -1.0" in html
    assert "1 run did not finish" in html


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"methods": ["fine_tun"]}, r"'methods': expected some of default, .*fine_tune.*, found 'fine_tun'"),
        (
            {"fraction_methods": ["default"]},
            "'fraction_methods': expected some of fine_tune, noisy_label, found 'default'",
        ),
        ({"fraction_methods": ["noisy_label"]}, "'fraction_methods': expected methods with a free .* fixes it at 0"),
        (
            {"retain_fractions": [0.0]},
            r"'retain_fractions': expected a list, .*above 0 and at most 1, none twice, found \[0.0\]",
        ),
        ({"retain_fraction": 1.5}, "'retain_fraction': expected a number above 0 and at most 1, found 1.5"),
        ({"seeds": []}, r"'seeds': expected a list of at least 1, each a whole number from 0, none twice, found \[\]"),
        ({"oracle_seeds": [1, 1]}, "'oracle_seeds': expected a list, each a whole number from 0, none twice"),
        ({"budget_methods": ["default"]}, "'budget_methods': expected some of fine_tune, noisy_label, found 'default'"),
        (
            {"budgets": [0.0]},
            r"'budgets': expected a list, each a number above 0 and at most 1000, none twice, found \[0.0\]",
        ),
        ({"further_training": -0.1}, "'further_training': expected a number above 0.*, found -0.1"),
        ({"weights": "nowhere.pt"}, "nowhere.pt: no such weights file"),
        ({"oracle_weights": ["nowhere.pt"]}, "nowhere.pt: no such weights file"),
        ({"train_settings": {"learning_rat": 1.0}}, "'train_settings': override key 'learning_rat'.*'learning_rate'"),
        ({"n_jobs": 0}, "'n_jobs': expected a whole number from 1 to 4096, found 0"),
        ({"retain_fracton": 0.1}, "override key 'retain_fracton'"),
        ({"datalist": "nowhere.json"}, "nowhere.json: no such datalist"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tiny_datalist, overrides, message):
    with pytest.raises(RuntimeError) as error:
        run("protocol", **{"datalist": tiny_datalist, "output_dir": "out", **STUDY, **overrides})
    root = error.value
    while root.__cause__ is not None:
        root = root.__cause__
    assert re.search(message, str(root)), root
    assert list(Path().iterdir()) == []


def test_a_verbs_own_settings_go_above_the_shared_ones():
    study = {"learning_rate": 1e-3, "num_workers": 2, "train_settings": {"learning_rate": 2e-3}, "seeds": [0]}
    files = {"train": ["train.yaml"], "unlearn": ["unlearn.yaml", "approximate.yaml"]}
    found = {verb: verb_settings(study, verb, [str(CONFIGS / n) for n in names]) for verb, names in files.items()}
    assert found["train"] == {"learning_rate": 2e-3, "num_workers": 2}
    assert found["unlearn"] == {"learning_rate": 1e-3, "num_workers": 2}


def test_cells_of_another_study_are_not_mixed_in(finished, tiny_datalist):
    with pytest.raises(RuntimeError) as error:
        protocol(tiny_datalist, finished, train_epochs=2)
    root = error.value
    while root.__cause__ is not None:
        root = root.__cause__
    assert "finished with other settings: 'train#train_epochs': expected 2, found 1" in str(root)
