"""The audit of one patient: known answers, calibration by simulation, and what it must not claim."""

import json

import numpy as np
import pytest

from scripts.audit.likelihood import (
    audit_patients,
    error_rate,
    lira,
    membership_of,
    out_statistics,
    patient_score,
    power,
    rmia,
    verdict,
)


def test_a_scan_is_compared_with_models_that_never_saw_it_alone():
    reference = np.array([[20.0, 30.0], [22.0, 40.0], [50.0, 32.0]])  # model 2 saw scan 0, model 1 saw scan 1
    members = np.array([[False, False], [False, True], [True, False]])
    mean, spread = out_statistics(reference, members)
    assert mean.tolist() == [21.0, 31.0]
    assert spread == pytest.approx([np.sqrt(2.0)] * 2)
    assert lira(np.array([21.0, 31.0 + 2 * np.sqrt(2.0)]), reference, members) == pytest.approx([0.0, 2.0])


def test_deviations_are_drawn_half_way_to_the_common_one():
    reference = np.array([[0.0, 0.0], [2.0, 4.0]])  # variances 2 and 8, together 5
    _, spread = out_statistics(reference, np.zeros((2, 2), dtype=bool))
    assert np.square(spread) == pytest.approx([3.5, 6.5])


def test_rmia_counts_the_population_by_hand():
    reference = np.zeros((2, 4))
    scores = np.array([0.5, 0.0, 0.5, 1.0])
    assert rmia(scores, reference, np.zeros((2, 4), dtype=bool), population=[1, 2, 3]).tolist() == [
        pytest.approx(1.5 / 3), pytest.approx(0.5 / 3), pytest.approx(1.5 / 3), pytest.approx(2.5 / 3),
    ]  # fmt: skip


@pytest.mark.parametrize("shift", [-3.0, 100.0])
def test_what_is_hard_for_every_model_is_no_sign(shift):
    """Adding to a scan's score under all models changes neither measure."""
    rng = np.random.default_rng(0)
    scores, reference = rng.normal(size=5), rng.normal(size=(4, 5))
    members, moved = np.zeros((4, 5), dtype=bool), np.array([shift, 0, 0, 0, 0])
    for measure in (lira, lambda *given: rmia(*given, population=[3, 4])):
        assert measure(scores + moved, reference + moved, members) == pytest.approx(measure(scores, reference, members))


def test_the_error_rate_is_kept_and_members_are_found():
    """Simulated: scores of n unseen, and of one who is exchangeable with them, or a member by three deviations."""
    rng = np.random.default_rng(1)
    wrong = found = 0
    for _ in range(400):
        unseen = rng.normal(size=39)
        wrong += error_rate(rng.normal(), unseen) <= 0.05
        found += error_rate(rng.normal() + 3.5, unseen) <= 0.05
    assert wrong / 400 < 0.08  # 5 % expected; 0.08 is 2.8 standard errors away
    assert found / 400 > 0.85


def test_error_rate_and_power_by_hand():
    assert error_rate(1.0, [0.0, 1.0, 2.0]) == 0.75
    assert error_rate(9.0, []) == 1.0
    assert power([9.0, 0.0], list(range(9)), rate=0.1) == 0.5
    assert patient_score([3.0]) == 3.0


UNSEEN = [i / 10 - 1 for i in range(21)]


@pytest.mark.parametrize(
    ("score", "unseen", "canaries", "word", "because"),
    [
        (5.0, UNSEEN, [], "known", "0.045"),  # a find needs no canary
        (5.0, UNSEEN, [9.0], "known", "0.045"),
        (0.0, UNSEEN, [9.0], "not found", "1.00 of the canaries"),
        (0.0, UNSEEN, [], "undecided", "no canaries"),
        (0.0, UNSEEN, [9.0, 0.0, 0.0], "undecided", "only 0.33 of the canaries"),
        (-5.0, UNSEEN, [9.0], "over-forgotten", "0.045"),
        (5.0, UNSEEN[:5], [9.0], "undecided", "5 unseen allow no error rate below 0.167"),
    ],
)
def test_verdicts(score, unseen, canaries, word, because):
    found = verdict(score, unseen, canaries)
    assert found["verdict"] == word
    assert because in found["because"]


def test_patients_forgotten_and_retained():
    scores = {f"u{i}": [value] for i, value in enumerate(UNSEEN)} | {
        "canary": [3.0, 3.0], "forgotten": [0.1, -0.2], "betrayed": [2.0, 2.0, 2.0], "retained": [2.5],
    }  # fmt: skip
    unseen = [name for name in scores if name.startswith("u")]
    found = audit_patients(scores, unseen, ["canary"], ["forgotten", "betrayed", "retained"])
    assert {name: entry["verdict"] for name, entry in found.items()} == {
        "forgotten": "not found", "betrayed": "known", "retained": "known",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"found \['nobody'\] without and \['u0'\] twice"):
        audit_patients(scores, [*unseen, "u0"], ["canary"], ["nobody"])


def test_too_few_references_are_refused():
    with pytest.raises(ValueError, match="at least 2 reference models that never saw a scan, found 1 for scan 1"):
        lira(np.zeros(2), np.zeros((3, 2)), np.array([[False, True], [False, True], [False, False]]))
    with pytest.raises(ValueError, match="expected population scans"):
        rmia(np.zeros(2), np.zeros((3, 2)), np.zeros((3, 2), dtype=bool), [])


def test_membership_is_read_from_the_record(tmp_path):
    record = tmp_path / "original.json"
    content = {"data": {"training": {"volumes": [{"volume": "a", "sha256": "1"}, {"volume": "b", "sha256": "2"}]}}}
    record.write_text(json.dumps(content))
    assert membership_of(record, ["2", "3"]).tolist() == [True, False]
    del content["data"]["training"]["volumes"][0]["sha256"]
    record.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="expected the SHA-256 of each file that was read"):
        membership_of(record, ["2"])
