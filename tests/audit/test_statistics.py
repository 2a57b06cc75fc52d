"""Intervals, gaps, distances and attacks, each on a case whose answer is known."""

import numpy as np
import pytest
from scipy import stats

from scripts.audit.measure import Statistics
from scripts.audit.membership import attack, auc, tpr_at_fpr
from scripts.audit.quality import equivalence, gap
from scripts.evaluation.bootstrap import mean_with_interval, patient_counts

DRAW = {"confidence": 0.9, "samples": 4000, "seed": 0}
rng = np.random.default_rng(0)
NORMAL = rng.normal(1.0, 2.0, 300)
OWN = [f"P{i}" for i in range(300)]


def test_bootstrap_interval_is_the_normal_one_for_many_patients():
    found = mean_with_interval(NORMAL, OWN, **DRAW)
    half = 1.645 * NORMAL.std(ddof=1) / np.sqrt(300)
    assert found["value"] == pytest.approx(NORMAL.mean())
    assert found["interval"] == pytest.approx([NORMAL.mean() - half, NORMAL.mean() + half], abs=0.03)


def test_more_volumes_of_the_same_patients_are_no_more_evidence():
    once = mean_with_interval(NORMAL[:20], OWN[:20], **DRAW)
    five_times = mean_with_interval(np.repeat(NORMAL[:20], 5), np.repeat(OWN[:20], 5).tolist(), **DRAW)
    width = [np.diff(found["interval"])[0] for found in (once, five_times)]
    assert width[1] == pytest.approx(width[0], rel=0.05)
    assert (five_times["volumes"], five_times["patients"]) == (100, 20)


def test_volumes_without_a_patient_count_each():
    found = mean_with_interval([1.0, 2.0, 3.0], ["", "", "a"], **DRAW)
    assert found["patients"] == 3
    assert patient_counts(["a", "a"], 10, 0) is None
    assert mean_with_interval([1.0, 2.0], ["a", "a"], **DRAW)["interval"] is None


def test_the_draw_follows_from_the_seed():
    assert (patient_counts(OWN, 50, 3) == patient_counts(OWN, 50, 3)).all()
    assert (patient_counts(OWN, 50, 3) != patient_counts(OWN, 50, 4)).any()


def test_equivalence_is_two_one_sided_t_tests():
    differences = NORMAL[:30] / 20
    found = equivalence(differences, OWN[:30], margin=0.1)
    above = stats.ttest_1samp(differences, 0.1, alternative="less").pvalue
    below = stats.ttest_1samp(differences, -0.1, alternative="greater").pvalue
    assert found["p"] == pytest.approx(max(above, below))
    assert found["equivalent"] == (found["p"] < 0.05)
    assert equivalence([0.0, 0.0], ["a", "a"], 0.1)["p"] is None
    assert equivalence([0.2, 0.2], ["a", "b"], 0.1)["equivalent"] is False


def test_gap_is_paired_and_knows_the_band():
    oracle = NORMAL[:10] * 5  # scans differ far more than models do
    references = {"oracle": oracle, "oracle 2": oracle + 0.3, "oracle 3": oracle - 0.2}
    found = gap(oracle + 0.5, references, OWN[:10], Statistics(), margin=0.5)
    assert [round(found[part]["value"], 9) for part in ("gap", "above", "below")] == [0.5, 0.2, 0.7]
    assert found["gap"]["interval"] == pytest.approx([0.5, 0.5])
    assert found["band"]["references"] == 3
    assert found["band"]["high"] - found["band"]["low"] == pytest.approx(0.5)
    assert gap(oracle, {"oracle": oracle}, OWN[:10], Statistics())["band"] is None


def test_auc_is_the_mann_whitney_statistic():
    members, others = np.round(NORMAL[:40], 1), np.round(NORMAL[40:70] - 0.5, 1)  # rounding makes ties
    expected = stats.mannwhitneyu(members, others).statistic / (40 * 30)
    assert auc(members, others) == pytest.approx(expected)


def test_true_positives_at_few_false_ones():
    others = np.arange(200.0)
    assert tpr_at_fpr([197.0, 197.5, 198.5, 500.0], others) == 0.75  # two of 200 may lie above: 198 and 199
    assert tpr_at_fpr([1.0, 3.0], [2.0], rate=0.01) == 0.5
    assert tpr_at_fpr([1.0], [2.0], rate=1.0) == 1.0


def test_attack_beside_the_oracles():
    remembers = (np.arange(10.0) + 20, np.arange(10.0))
    knows_nothing = (np.arange(10.0), np.arange(10.0))
    other_seed = (np.arange(10.0) + 2, np.arange(10.0))
    references = [knows_nothing, other_seed]
    found = attack(*remembers, (OWN[:10], OWN[10:20]), Statistics(), references)
    assert (found["auc"]["value"], found["tpr"], found["reference_auc"]) == (1.0, 1.0, 0.5)
    assert found["above"]["value"] == pytest.approx(1 - auc(*other_seed))
    assert found["below"]["value"] == 0.5
    assert found["below"]["interval"][0] > 0
    itself = attack(*knows_nothing, (OWN[:10], OWN[10:20]), Statistics(), [knows_nothing])
    assert itself["above"] == {"value": 0.0, "interval": [0.0, 0.0]}
    alone = attack(*remembers, (["a"] * 10, ["b"] * 10), Statistics())
    assert alone["auc"]["interval"] is None
    assert alone["above"] is None
