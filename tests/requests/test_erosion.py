"""What a stream of requests costs those who stay, from the records that the ledger names."""

import json
import logging

import pytest

from scripts.audit.earlier import Erosion, advice
from scripts.audit.gates import judge
from scripts.requests import enter_training, warn_of_erosion
from scripts.requests.ledger import Ledger
from scripts.requests.lineage import erosion, total
from scripts.run.files import file_sha256
from tests.audit.helpers import given
from tests.requests.erasing import erase, request, write_weights
from tests.requests.test_ledger_entry import FIRST, SECOND, THIRD, datalist, ledger, original

__all__ = ["datalist", "ledger", "original"]  # fixtures
GATE = {"name": "stay", "guards": "retain damage", "measure": "erosion/total", "at_least": -1.0}


def changes(ledger, weights):
    return [(step.request, step.change, step.why) for step in erosion(Ledger(ledger), weights)]


@pytest.fixture
def stream(datalist, original, ledger, tmp_path):
    """Weights after march, june (carried out twice) and autumn."""
    first = erase(ledger, datalist, FIRST, original, tmp_path / "first", change=-0.25)
    erase(ledger, datalist, SECOND, first, tmp_path / "second", change=-9.0)
    second = erase(ledger, datalist, SECOND, first, tmp_path / "again", change=-0.5)
    third = erase(ledger, datalist, THIRD, second, tmp_path / "third", change=-0.5)
    return first, second, third


def test_the_changes_add_up_and_a_repeated_request_counts_once(stream, original, ledger):
    first, _, third = stream
    assert changes(ledger, third) == [("march", -0.25, ""), ("june", -0.5, ""), ("autumn", -0.5, "")]
    assert total(erosion(Ledger(ledger), third)) == pytest.approx(-1.25)
    assert changes(ledger, first) == [("march", -0.25, "")]
    assert changes(ledger, original) == []


def test_a_training_anew_begins_from_nothing(stream, datalist, ledger, tmp_path):
    anew = write_weights(tmp_path / "anew" / "original.pt", "anew")
    record = {"verb": "train", "weights_out": {"sha256": file_sha256(anew)}}
    (tmp_path / "anew" / "original.json").write_text(json.dumps(record))
    enter_training(ledger, anew.parent, "original", enter=True)
    assert changes(ledger, anew) == []
    last = erase(ledger, datalist, request("winter", {"patient_id": "P3"}), anew, tmp_path / "winter", change=-0.1)
    assert changes(ledger, last) == [("winter", pytest.approx(-0.1), "")]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda record: record.unlink(), "its record is not there"),
        (lambda record: record.write_text(record.read_text().replace("29.75", "29.95")), "its record was changed"),
    ],
)
def test_a_record_that_is_missing_or_changed_is_named_and_nothing_is_summed(
    stream, ledger, tmp_path, spoil, why, caplog
):
    spoil(tmp_path / "first" / "unlearned.json")
    assert changes(ledger, stream[2])[0] == ("march", None, why)
    assert total(erosion(Ledger(ledger), stream[2])) is None
    with caplog.at_level(logging.INFO):
        warn_of_erosion(ledger, stream[2], 1.0)
    assert f"is not known: march ({why})" in caplog.text
    found = Erosion(given(ledger=ledger, weights={"unlearned": stream[2]})).measure({}, None, None)
    assert found["total"] == {"not measured": f"line 2: {why}"}
    assert judge(GATE, {"erosion": found})["verdict"] == "not measured"


def test_the_change_is_that_of_the_request_and_not_since_the_first_original(datalist, original, ledger, tmp_path):
    """A second request's record has the weights before it, beside the original."""
    made = erase(ledger, datalist, FIRST, original, tmp_path / "first", change=-0.5, before=29.0)
    assert changes(ledger, made) == [("march", pytest.approx(0.5), "")]


def test_a_run_that_was_not_evaluated_is_named(datalist, original, ledger, tmp_path):
    first = erase(ledger, datalist, FIRST, original, tmp_path / "first")
    assert changes(ledger, first) == [("march", None, "no evaluation in its record")]


def test_the_declared_limit_ends_in_the_advice_to_train_anew(stream, ledger, caplog):
    with caplog.at_level(logging.INFO):
        warn_of_erosion(ledger, stream[2], 1.5)
    assert "since the original was trained: -1.25 dB in 3 requests" in caplog.text
    assert "Train anew" not in caplog.text
    warn_of_erosion(ledger, stream[2], 1.0)
    assert "lost 1.25 dB since the original was trained, more than the declared 1 dB" in caplog.text
    assert f"run train --config_file bundle/configs/train.yaml --ledger {ledger}" in caplog.text
    caplog.clear()
    warn_of_erosion(None, stream[2], 1.0)
    warn_of_erosion(ledger, stream[2], None)
    assert "Train anew" not in caplog.text


def test_the_audits_gate_fails_with_the_same_advice(stream, ledger):
    found = {"erosion": Erosion(given(ledger=ledger, weights={"unlearned": stream[2]})).measure({}, None, None)}
    judged = judge(GATE, found)
    assert (judged["verdict"], judged["value"]) == ("fail", pytest.approx(-1.25))
    assert "train.yaml --ledger LEDGER" in advice([judged])
    passed = judge({**GATE, "at_least": -1.5}, found)
    assert (passed["verdict"], advice([passed])) == ("pass", None)
    none = Erosion(given(weights={"unlearned": stream[2]})).measure({}, None, None)
    assert none["not measured"] == "no ledger that knows these weights"
