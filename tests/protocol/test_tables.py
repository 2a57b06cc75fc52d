import csv
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from scripts.evaluation.results import VolumeResult
from scripts.protocol import display, effort, quality
from scripts.protocol.frontier import frontier_rows
from scripts.protocol.plan import Cell
from scripts.protocol.results import Result, main_results
from scripts.protocol.verdict import verdict_rows, verdict_sentences
from tests.protocol import helpers


@pytest.fixture(scope="module")
def groups():
    return main_results(helpers.study(), helpers.MAIN)


def array(results, cohort, metric):
    """(seeds, volumes)."""
    return np.array([[row.value(metric) for row in result.rows if row.cohort == cohort] for result in results])


def find(rows, **fields):
    (row,) = [row for row in rows if all(getattr(row, key) == value for key, value in fields.items())]
    return row


def test_quality_against_numpy(groups):
    assert list(groups) == ["G", "oracle", "forget only", "FT", "NL"]
    rows = quality.quality_rows(groups)
    assert len(rows) == 6 * 9
    for model, results in groups.items():
        for cohort in helpers.COUNTS:
            for metric in ("psnr", "ssim", "nmse"):
                values, row = array(results, cohort, metric), find(rows, model=model, cohort=cohort, metric=metric)
                assert row.mean == pytest.approx(values.mean(), rel=1e-12)
                assert row.std == pytest.approx(values.mean(axis=0).std(ddof=1), rel=1e-12)
                if len(values) > 1:
                    assert row.std_seeds == pytest.approx(values.mean(axis=1).std(ddof=1), rel=1e-9)
                else:
                    assert row.std_seeds is None
                assert row.records.split("; ") == [result.path for result in results]


def test_band_and_gaps_against_numpy(groups):
    band, gaps = quality.band_rows(groups), quality.gap_rows(groups, seed=3)
    oracle = array(groups["oracle"], "KTA", "psnr")
    row = find(band, cohort="KTA", metric="psnr")
    assert (row.low, row.high) == pytest.approx((oracle.mean(axis=1).min(), oracle.mean(axis=1).max()))
    row = find(gaps, model="FT", cohort="KTA", metric="psnr")
    own = array(groups["FT"], "KTA", "psnr")
    assert row.difference == pytest.approx((own.mean(axis=0) - oracle.mean(axis=0)).mean(), rel=1e-9)
    assert row.low <= row.difference <= row.high
    assert row.patients == 2
    inside = oracle.mean(axis=1).min() <= own.mean() <= oracle.mean(axis=1).max()
    assert row.within_band == inside
    assert gaps == quality.gap_rows(groups, seed=3)


def test_a_single_oracle_has_no_band():
    groups = main_results(helpers.study(oracles=1), helpers.MAIN)
    assert all(row.within_band is None for row in quality.gap_rows(groups, seed=0))


def test_efficiency_is_relative_to_training_the_oracle(groups):
    row = find(effort.cost_rows(groups), model="NL")
    assert row.passes_share == pytest.approx(60 / 2700)
    assert row.seconds_share == pytest.approx(2 / 90)


def test_knowledge_gap(groups):
    row = find(quality.knowledge_rows(groups), cohort="KTA", metric="psnr")
    means = {model: array(groups[model], "KTA", "psnr").mean() for model in ("G", "oracle", "forget only")}
    for model, mean in means.items():
        assert getattr(row, model.replace(" ", "_")) == pytest.approx(mean)
    assert row.G_minus_oracle == pytest.approx(means["G"] - means["oracle"])


def test_dynamics_begin_with_the_original_and_end_with_the_result(groups):
    results = helpers.study()
    rows = effort.epoch_rows(results, results[0])
    bta = [row.psnr for row in rows if row.cohort == "BTA"]
    assert [row.epoch for row in rows if row.cohort == "BTA"] == [0, 1, 2, 3]
    assert bta[0] == pytest.approx(array(results[:1], "BTA", "psnr").mean())
    final = next(result for result in results if result.epochs)
    assert bta[-1] == pytest.approx(array([final], "BTA", "psnr").mean())


def test_fractions_and_fits(groups):
    rows = effort.fraction_rows(helpers.study(), ["fine_tune"])
    assert [row.retain_fraction for row in rows] == [0.05, 0.1, 0.5, 1.0]
    fits = {(fit.model, fit.quantity): fit for fit in effort.fits(rows)}
    expected = np.polyfit(np.log10([0.05, 0.1, 0.5, 1.0]), [row.BTA_psnr for row in rows], 2)
    fit = fits["FT", "BTA_psnr"]
    np.testing.assert_allclose([fit.a, fit.b, fit.c], expected)


def test_verdict_orders_by_the_largest_gap(groups):
    qualities, gaps = quality.quality_rows(groups), quality.gap_rows(groups, 0)
    rows = verdict_rows(qualities, gaps, effort.cost_rows(groups))
    assert [abs(row.largest_gap) for row in rows] == sorted(abs(row.largest_gap) for row in rows)
    sentences = verdict_sentences(rows, qualities, failed=1)
    assert rows[0].model in sentences[1]
    assert "1 run did not finish" in sentences[-1]


def test_files_hold_every_digit_and_read_well(groups, tmp_path):
    rows = quality.quality_rows(groups)
    display.write_shown(display.show_quality(rows), tmp_path / "quality")
    with open(tmp_path / "quality.csv", newline="") as file:
        assert [float(row["mean"]) for row in csv.DictReader(file)] == [row.mean for row in rows]
    assert json.loads((tmp_path / "quality.json").read_text()) == [asdict(row) for row in rows]
    text = (tmp_path / "quality.md").read_text().splitlines()
    assert text[0].startswith("| model | BTA PSNR [dB] | BTA SSIM |")
    assert len(text) == 2 + 6
    assert len({line.count("|") for line in text}) == 1


def level(psnr):
    """A volume in each cohort."""
    above = {"BTA": 0.0, "KTA": -2.0, "UA": -3.0}
    return [VolumeResult("model", c, f"{c}.h5", c, "", 1, psnr + add, psnr / 100, 0.1) for c, add in above.items()]


def made(role, seed, delivered, later, budget=None):
    cell = Cell(f"{role}/{budget}/{seed}", role, seed, "fine_tune" if budget else "", budget=budget)
    return Result(cell, {}, f"{cell.name}.json", level(delivered), [], {}, level(later))


def test_the_frontier_by_hand():
    oracles = [made("oracle", 0, 30.0, 31.0), made("oracle", 1, 32.0, 35.0)]
    budgets = [made("unlearned", 0, 30.0, 33.0, 0.5), made("unlearned", 1, 33.0, 37.0, 0.5)]
    found = frontier_rows([*oracles, made("unlearned", 0, 10.0, 10.0), *budgets])
    assert len(found) == 2 * 3 * 2
    row = find(found, state="delivered", cohort="UA", metric="psnr")
    assert (row.model, row.budget, row.seeds) == ("FT", 0.5, 2)
    assert (row.gap, row.lowest, row.highest) == (0.5, -1.0, 2.0)
    row = find(found, state="later", cohort="BTA", metric="ssim")
    assert (row.gap, row.lowest, row.highest) == pytest.approx((0.02, 0.0, 0.04))
    shown = display.show_frontier(found).table
    assert shown.columns[:3] == ["model", "passes", "BTA"]
    assert shown.rows[0][2] == "+0.50 (−1.00 to +2.00) / +0.005 (−0.010 to +0.020)"


def test_without_further_training_the_frontier_is_of_what_is_delivered():
    results = [
        replace(made(*facts), later=()) for facts in (("oracle", 0, 30.0, 30.0), ("unlearned", 0, 30.0, 30.0, 0.1))
    ]
    assert {row.state for row in frontier_rows(results)} == {"delivered"}
    assert frontier_rows(results[:1]) == []
