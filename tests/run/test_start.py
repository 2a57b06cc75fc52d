"""How a verb begins, whatever the working directory and the words on the command line."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import monai.bundle
import pytest

from scripts.run.errors import own_error
from tests.verbs import CONFIGS, SMALL, run

ROOT = CONFIGS.parents[1]
pytestmark = pytest.mark.usefixtures("contained")


def command(*words, cwd, **environment) -> subprocess.CompletedProcess:
    arguments = [sys.executable, "-m", "monai.bundle", "run", *map(str, words)]
    variables = {
        **os.environ,
        "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'bundle'}",
        **environment,
    }
    return subprocess.run(arguments, cwd=cwd, env=variables, capture_output=True, text=True, check=False)


def test_another_package_of_the_name_scripts_is_refused(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").write_text("raise SystemExit('run')")
    done = command("train", "--config_file", CONFIGS / "train.yaml", cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert str(ROOT / "scripts") in last
    assert f"found {tmp_path / 'scripts'}" in last
    assert [path.name for path in tmp_path.iterdir()] == ["scripts"]


def test_a_stray_word_does_not_pass_for_initialize(tiny_datalist):
    """`--output_dir My Results` makes "Results" MONAI's init_id, and `initialize` is not run."""
    with pytest.raises(RuntimeError) as error:
        run("train", init_id="Results", datalist=tiny_datalist, output_dir="My", **SMALL)
    assert "train: expected 'initialize' to run first, found 'Results' in its place" in str(own_error(error.value))
    assert list(Path().iterdir()) == []


def test_initialize_must_reach_its_end(tiny_datalist):
    with pytest.raises(RuntimeError) as error:
        run("preview", initialize=["$scripts.run.begin(@verb, @seed)"], datalist=tiny_datalist)
    assert "expected 'initialize' to have checked the run" in str(own_error(error.value))


@pytest.mark.parametrize("word", ["evalute", "network", "initialize"])
def test_another_run_id_than_the_verb(tiny_datalist, word):
    with pytest.raises(RuntimeError) as error, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "parsing config_file", UserWarning)
        monai.bundle.run(word, config_file=str(CONFIGS / "evaluate.yaml"), datalist=tiny_datalist)
    assert f"run: expected 'evaluate', the verb of these config files, found '{word}'" in str(own_error(error.value))


def test_train_has_the_properties_that_monai_asks_for(tiny_datalist):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "parsing config_file", UserWarning)
        workflow = monai.bundle.create_workflow(
            config_file=str(CONFIGS / "train.yaml"), workflow_type="train", datalist=tiny_datalist, **SMALL
        )
    assert workflow.check_properties() == []
    assert Path(workflow.bundle_root) == CONFIGS.parent
    assert workflow.dataset_dir == str(Path(tiny_datalist).parent)
    assert workflow.max_epochs == 18
    assert len(workflow.train_dataset) == 24
    assert workflow.evaluator is not None
    workflow.finalize()


def test_help_lists_verbs_methods_masks_and_settings(capsys):
    run("help")
    text = capsys.readouterr().out
    for name in (
        "unlearn",
        "preview",
        "fine_tune",
        "RandomMask",
        "budget: 0.1",
        "retain_fraction: 0.1",
        "forget_request",
    ):
        assert f"\n  {name} " in text
    assert "share of the backward passes" in text
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"mask#accelaration": 6}, "'mask#accelaration': .*'acceleration'"),
        ({"mask#_target_": "scripts.data.RadialMask"}, "EquispacedFractionMask, .*RandomMask"),
    ],
)
def test_a_mistyped_part_of_a_component_is_told_before_work(tiny_datalist, override, message):
    with pytest.raises(RuntimeError) as error:
        run("train", datalist=tiny_datalist, **{**SMALL, **override})
    assert re.search(message, str(own_error(error.value)))
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("method", ["fine_tune", "gradient_ascent_ft"])
def test_a_method_without_its_base_says_which_file_to_add(tiny_datalist, trained, method):
    files = [str(CONFIGS / name) for name in ("unlearn.yaml", f"methods/{method}.yaml")]
    settings = {"datalist": tiny_datalist, "weights": str(trained / "original.pt"), "prior": str(trained / "prior.pt")}
    with pytest.raises(RuntimeError) as error, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "parsing config_file", UserWarning)
        monai.bundle.run("unlearn", config_file=files, **settings, **SMALL)
    assert "approximate.yaml" in str(own_error(error.value))
    assert list(Path().iterdir()) == []


def test_weights_of_another_network_say_so_in_one_line(tiny_datalist, trained):
    settings = {"datalist": tiny_datalist, "prior": str(trained / "prior.pt"), **SMALL, "network#num_cascades": 2}
    for weights, expected in (
        (
            str(trained / "original.pt"),
            "weights of another network: expected num_cascades 1 (its record), found num_cascades 2",
        ),
        (False, "prior.pt: weights of another network: expected num_cascades 1 (its record), found num_cascades 2"),
    ):
        with pytest.raises(RuntimeError) as error:
            run("unlearn", weights=weights, **settings)
        message = str(own_error(error.value))
        assert expected in message
        assert "\n" not in message


def test_an_error_is_one_paragraph(tmp_path):
    words = ("evaluate", "--config_file", CONFIGS / "evaluate.yaml", "--sectons", "[test]")
    done = command(*words, cwd=tmp_path, LOGLEVEL="")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Error: override key 'sectons': not in the configuration; did you mean 'sections'?" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" in command(*words, cwd=tmp_path, LOGLEVEL="DEBUG").stderr
