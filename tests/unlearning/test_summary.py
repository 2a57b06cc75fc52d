"""Poor results and odd settings are said once, with the number."""

import json
import re

import pytest
import torch

from scripts.unlearning import summary
from tests.evaluation.test_report import record

MASK = {"_target_": "scripts.data.EquispacedFractionMask", "acceleration": 3, "center_fraction": 0.08}


def facts(**psnr):
    results = {name: {"BTA": {"psnr": {"mean": value}}} for name, value in psnr.items()}
    return record(results={name.replace("_", "-"): value for name, value in results.items()}, budget=0.02)


@pytest.mark.parametrize(
    ("psnr", "said"),
    [
        ({"zero_filled": 21.0, "original": 27.4, "unlearned": 20.5}, "zero-filled image is better .*20.5.*0.02"),
        ({"zero_filled": 15.0, "original": 27.4, "unlearned": 22.6}, "4.8 dB worse .*--budget, here 0.02"),
        ({"zero_filled": 15.0, "original": 27.4, "unlearned": 26.5}, None),
        ({"zero_filled": 15.0, "unlearned": 16.5}, None),
    ],
)
def test_one_warning_with_the_number(caplog, psnr, said):
    summary.warn_of_results(facts(**psnr))
    assert len(caplog.messages) == (said is not None)
    if said:
        assert re.search(said, caplog.messages[0])


def test_no_figures_no_warning(caplog):
    summary.warn_of_results(record(results=None))
    assert caplog.messages == []


@pytest.fixture
def original(tmp_path, monkeypatch):
    """Weights trained with the mask at 3, 18 epochs; the running configuration can be set."""
    trained = {"verb": "train", "configuration": {"mask": MASK, "train_epochs": 18}}
    (tmp_path / "original.json").write_text(json.dumps(trained))
    own = {"mask": MASK, "train_epochs": 18, "older_weights": False}
    monkeypatch.setattr(summary, "running_config", lambda: own)
    return own, tmp_path / "original.pt"


def test_what_is_as_in_training_is_not_mentioned(original, caplog):
    summary.check_run([], torch.nn.Linear(1, 1), original[1])
    summary.check_run([], torch.nn.Linear(1, 1), False)
    assert caplog.messages == []


def test_another_mask_and_another_length_are_one_line_each(original, caplog):
    own, weights = original
    own |= {"mask": {**MASK, "acceleration": 6}, "train_epochs": 50}
    summary.check_run([], torch.nn.Linear(1, 1), weights)
    assert len(caplog.messages) == 2
    assert "'mask': acceleration 6 here, acceleration 3 where" in caplog.text
    assert "'train_epochs': 50 here, 18 where" in caplog.text


def test_a_method_that_changes_the_original_needs_its_base(original):
    own, weights = original
    del own["older_weights"]
    own["method_name"] = "fine_tune"
    with pytest.raises(ValueError, match=r"'method_name': fine_tune .*approximate\.yaml.*methods/fine_tune\.yaml"):
        summary.check_run([], torch.nn.Linear(1, 1), weights)
