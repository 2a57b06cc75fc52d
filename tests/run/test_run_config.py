"""The one look at the call stack, and the override keys that the configuration does not know."""

import os
import warnings
from pathlib import Path

import monai.bundle
import pytest
from monai.bundle import ConfigWorkflow

from scripts.run import config as run_config
from scripts.run.check import refuse_unknown_keys
from scripts.run.config import declared_config, running_config, running_workflow
from scripts.run.errors import own_error

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
DECLARED = {
    "retain_fraction": 0.1,
    "network": {"_target_": "VarNet"},
    "weights": {"G": "original.pt"},
    "train": {"trainer": {"_target_": "SupervisedTrainer"}, "epoch_length": 3},
}


@pytest.mark.parametrize(
    "config",
    [
        {"retain_fraction": 0.5},
        {"network": {"_target_": "VarNet", "chans": 4}},  # what a component does not know it refuses itself
        {"weights": {"first": "a.pt", "second": "b.pt"}},
        {"train": {"trainer": {"_target_": "SupervisedTrainer", "amp": True}}},
        dict.fromkeys(run_config.TRACKING),  # --tracking mlflow
    ],
)
def test_known(config):
    refuse_unknown_keys(DECLARED, {**DECLARED, **config})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"retain_fracton": 0.5},
            "override key 'retain_fracton': not in the configuration; did you mean 'retain_fraction'?",
        ),
        ({"xyz": 1}, "expected one of retain_fraction, network, weights, train"),
        ({"train": {"trianer": 1}}, "override key 'train#trianer': not in the configuration; did you mean 'train'?"),
        ({"run_name": "mine"}, "override key 'run_name'"),
    ],
)
def test_unknown(config, message):
    with pytest.raises(ValueError, match=message):
        refuse_unknown_keys(DECLARED, {**DECLARED, **config})


def test_outside_a_bundle():
    with pytest.raises(RuntimeError, match="no bundle is being run"):
        running_config()


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A bundle with one verb, ``look``, whose run stores what the stack shows."""
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "look.yaml").write_text(
        "imports: [$import tests.run.test_run_config as here]\nverb: look\nseed: 0\n"
        "initialize: [$here.check()]\nlook: [$here.look()]\n"
    )
    (configs / "overlay.yaml").write_text("more: 1\n")
    (configs / "metadata.json").write_text("{}")
    monkeypatch.setattr(run_config, "bundle_root", lambda: str(tmp_path))
    return configs


SEEN: list = []


def check() -> None:
    refuse_unknown_keys(declared_config("look"), running_config())


def look() -> None:
    SEEN[:] = [running_workflow()]


def run(configs, *files, **overrides):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        monai.bundle.run("look", config_file=[str(configs / file) for file in files], **overrides)


def test_the_stack_shows_workflow_and_files(bundle):
    run(bundle, "look.yaml", "overlay.yaml", seed=3)
    workflow, files = SEEN[0]
    assert workflow.parser.get("seed") == 3
    assert files == [str(bundle / "look.yaml"), str(bundle / "overlay.yaml")]
    with pytest.raises(RuntimeError) as error:
        run(bundle, "look.yaml", sed=3)
    assert "override key 'sed': not in the configuration; did you mean 'seed'" in str(own_error(error.value))


@pytest.mark.parametrize("file", ["look.yaml", "overlay.yaml"])
def test_a_key_that_stands_twice_in_a_config_file_is_refused(bundle, monkeypatch, file):
    """MONAI would warn and take the last; what a user's environment says about it stays as it is."""
    monkeypatch.setenv(run_config.STRICT, "0")
    with open(bundle / file, "a") as opened:
        opened.write("note: {a: 1, b: 2, a: 3}\n")
    with pytest.raises(RuntimeError) as error:
        run(bundle, "look.yaml", "overlay.yaml")
    assert f"{bundle / file}: expected each key once, found 'Duplicate key: `a`'" in str(own_error(error.value))
    assert os.environ[run_config.STRICT] == "0"


def hand_made(configs, *files, **overrides):
    """A workflow made under other names than MONAI's: no frame ``create_workflow``, no local ``_args`` or ``self``."""
    something = ConfigWorkflow([str(configs / file) for file in files], workflow_type=None, **overrides)
    something.run_id = "look"
    something.initialize()
    something.run()


def test_what_the_stack_does_not_show_is_refused(bundle):
    hand_made(bundle, "look.yaml", seed=3)
    with pytest.raises(RuntimeError) as error:
        hand_made(bundle, "look.yaml", sed=3)
    assert "override key 'sed'" in str(own_error(error.value))
    with pytest.raises(RuntimeError) as error:  # the overlay's key may be an unknown override: it cannot be told
        hand_made(bundle, "look.yaml", "overlay.yaml")
    assert "override key 'more'" in str(own_error(error.value))
    (bundle / "look.yaml").rename(bundle / "other.yaml")
    with pytest.raises(RuntimeError) as error:
        hand_made(bundle, "other.yaml")
    assert "expected one config file of the verb 'look', found 0" in str(own_error(error.value))


def test_a_renamed_frame_of_monai_passes_nothing(bundle, monkeypatch):
    """As if another version of MONAI had its entry points elsewhere: no frame shows the config files."""
    monkeypatch.setitem(vars(monai.bundle.scripts), "__name__", "monai.bundle.elsewhere")
    run(bundle, "look.yaml", seed=3)
    for files, overrides in ((["look.yaml"], {"sed": 3}), (["look.yaml", "overlay.yaml"], {})):
        with pytest.raises(RuntimeError) as error:
            run(bundle, *files, **overrides)
        assert "not in the configuration" in str(own_error(error.value))


def test_an_overlay_before_its_base_is_refused(bundle):
    with pytest.raises(RuntimeError) as error:
        run(bundle, "overlay.yaml", "look.yaml")
    assert "expected the overlays after the file of the verb" in str(own_error(error.value))


@pytest.mark.parametrize("verb", ["train", "unlearn", "simulate", "preview", "protocol"])
def test_a_verb_answers_to_the_zoos_name(verb):
    """`python -m monai.bundle run` and `create_workflow(…).run()` look for the key ``run``."""
    assert monai.bundle.ConfigParser.load_config_file(str(CONFIGS / f"{verb}.yaml"))["run"] == f"@{verb}"
