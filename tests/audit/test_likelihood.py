"""The audit of one patient: known answers, calibration by simulation, and what it must not claim."""

import numpy as np
import pytest
from scipy.stats import binom

from scripts.audit.likelihood import (
    Scores,
    error_interval,
    error_rate,
    joint_error_rate,
    lira,
    out_statistics,
    patient_score,
    rmia,
    verdict,
)


def test_a_scan_is_compared_with_models_that_never_saw_it_alone():
    reference = np.array([[20.0, 30.0], [22.0, 40.0], [50.0, 32.0]])  # model 2 saw scan 0, model 1 saw scan 1
    members = np.array([[False, False], [False, True], [True, False]])
    mean, spread = out_statistics(reference, members)
    assert mean.tolist() == [21.0, 31.0]
    assert spread == pytest.approx(np.sqrt(2.0))
    assert lira(np.array([21.0, 31.0 + 2 * np.sqrt(2.0)]), reference, members) == pytest.approx([0.0, 2.0])


def test_all_scans_have_one_deviation_to_which_each_model_adds_a_degree_of_freedom():
    reference = np.array([[0.0, 0.0], [2.0, 4.0], [np.nan, 2.0]])  # variances 2 of two models and 4 of three
    members = np.array([[False, False], [False, False], [True, False]])
    _, spread = out_statistics(np.nan_to_num(reference), members)
    assert spread**2 == pytest.approx((1 * 2 + 2 * 4) / 3)


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


def test_error_rates_by_hand():
    assert error_rate(1.0, [0.0, 1.0, 2.0]) == 0.75
    assert error_rate(9.0, []) == 1.0
    assert error_interval(9.0, []) == [0.0, 1.0]
    assert patient_score([3.0, 1.0]) == 2.0


@pytest.mark.parametrize("above", [0, 3, 20])
def test_the_interval_is_that_of_the_binomial_distribution(above):
    """Its bounds are the shares at which as many, or as few, would be seen with a probability of 5 %."""
    low, high = error_interval(1.0, [2.0] * above + [0.0] * (20 - above), confidence=0.9)
    assert low == 0 if above == 0 else binom.sf(above - 1, 20, low) == pytest.approx(0.05)
    assert high == 1 if above == 20 else binom.cdf(above, 20, high) == pytest.approx(0.05)


UNSEEN = [i / 10 - 1 for i in range(21)]


def scores(value=0.0, unseen=UNSEEN, canaries=(), **more) -> Scores:
    """Of a patient P, of unseen patients and of canaries, all brains; ``more`` patients, too."""
    never = {f"U{i}": score for i, score in enumerate(unseen)}
    planted = {f"C{i}": score for i, score in enumerate(canaries)}
    of = {"P": value, **never, **planted, **more}
    return Scores(of, dict.fromkeys(of, "brain"), list(never), list(planted))


REMEMBERS, BLIND = [scores(5.0)], [scores(0.5)]


@pytest.mark.parametrize(
    ("audited", "trained", "word", "because"),
    [
        (scores(5.0), [], "known", "0.045"),  # a find needs no canary
        (scores(5.0, canaries=[9.0]), REMEMBERS, "known", "0.045"),
        (scores(0.0, canaries=[9.0]), REMEMBERS, "not found", "0.545"),
        (scores(0.0), REMEMBERS, "no power", "no canaries"),
        (scores(0.0, canaries=[9.0, 0.0, 0.0]), REMEMBERS, "no power", "only 0.33 of the 3 canaries"),
        (scores(0.0, canaries=[9.0]), BLIND, "no power", "finds the patient in 0.00 only"),
        (scores(0.0, canaries=[9.0]), [*BLIND, *REMEMBERS], "not found", "0.545"),
        (scores(0.0, canaries=[9.0]), [], "no power", "no weights whose record says"),
        (scores(-5.0, canaries=[9.0]), REMEMBERS, "over-forgotten", "0.045"),
        (scores(5.0, UNSEEN[:5], [9.0]), REMEMBERS, "undecided", "5 unseen patients allow no error rate below 0.167"),
    ],
)
def test_verdicts(audited, trained, word, because):
    found = verdict("P", audited, trained)
    assert found["verdict"] == word
    assert because in found["because"]


def test_patients_are_compared_with_their_kind():
    of = {"P": 0.0, "knee": -3.0, **{f"U{i}": score for i, score in enumerate(UNSEEN)}}
    kinds = {name: "knee" if name == "P" or name in ("U0", "knee") else "brain" for name in of}
    found = Scores(of, kinds, [f"U{i}" for i in range(21)], ["knee"])
    assert found.beside("P") == [-1.0]
    assert found.error_rate("P") == 0.5
    assert found.power() == 0.0


def test_the_joint_error_rate_of_several_patients():
    assert joint_error_rate(["P"], scores(5.0)) == scores(5.0).error_rate("P")
    one_of_three = scores(5.0, Q=-3.0, R=-3.0)
    assert joint_error_rate(["P", "Q", "R"], one_of_three) == pytest.approx(2 * 3 / 22)
    all_a_little = scores(0.9, Q=0.95, R=0.92, S=0.85, T=0.97)
    names = ["P", "Q", "R", "S", "T"]
    assert joint_error_rate(names, all_a_little) < 0.05 < min(all_a_little.error_rate(p) for p in names)
    assert joint_error_rate(names, all_a_little, low=True) == 1.0


def test_the_joint_error_rate_keeps_its_level():
    """Simulated under no memory: below 0.1 in a tenth of the cases, and no more than 3 standard errors above."""
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(50):
        values = rng.normal(size=4)
        found = scores(values[0], list(rng.normal(size=30)), Q=values[1], R=values[2], S=values[3])
        wrong += joint_error_rate(["P", "Q", "R", "S"], found) < 0.1
    assert wrong <= 11


def test_too_few_references_are_refused():
    with pytest.raises(ValueError, match="at least 2 reference models that never saw a scan, found 1 for scan 1"):
        lira(np.zeros(2), np.zeros((3, 2)), np.array([[False, True], [False, True], [False, False]]))
