import csv
import math

import numpy as np
import pytest

from scripts.protocol import effort, tables
from scripts.protocol.figures import draw_charts
from scripts.protocol.plan import FORGET_ONLY, ORACLE, ORIGINAL, UNLEARNED
from scripts.protocol.report import make_tables
from scripts.protocol.results import NAMES
from scripts.protocol.study import Outcome
from tests.protocol import helpers
from tests.protocol.helpers import WORDS, collect, made

NEVER_SAW = NAMES[ORACLE]


@pytest.fixture(scope="module")
def study():
    return helpers.study()


@pytest.fixture(scope="module")
def main(study):
    return study.at(helpers.MAIN)


@pytest.fixture(scope="module")
def quality(main):
    return tables.quality(main, WORDS)


def array(results, model, cohort, metric):
    """(seeds, volumes)."""
    scores = results.scores
    chosen = (scores.model == model) & (scores.cohort == cohort) & (scores.metric == metric)
    found = scores[chosen & (scores.state == "delivered")]
    return np.array([list(own.value) for _, own in found.groupby("cell")])


def find(rows, **fields):
    (row,) = [row for row in rows.itertuples() if all(getattr(row, key) == value for key, value in fields.items())]
    return row


def test_quality_against_numpy(main, quality):
    rows = quality.rows
    assert list(rows.model.unique()) == ["zero-filled", "original", NEVER_SAW, NAMES[FORGET_ONLY], "FT", "NL"]
    assert len(rows) == 6 * 9
    for model in rows.model.unique()[1:]:
        for cohort in helpers.COUNTS:
            for metric in ("psnr", "ssim", "nmse"):
                values, row = array(main, model, cohort, metric), find(rows, model=model, cohort=cohort, metric=metric)
                assert row.mean == pytest.approx(values.mean(), rel=1e-12)
                assert row.std == pytest.approx(values.mean(axis=0).std(ddof=1), rel=1e-12)
                if len(values) > 1:
                    assert row.std_seeds == pytest.approx(values.mean(axis=1).std(ddof=1), rel=1e-9)
                else:
                    assert math.isnan(row.std_seeds)
                assert row.records.split("; ") == list(main.runs.records[main.runs.model == model])


def test_a_single_volume_has_no_spread():
    shown = tables.quality(collect([made(ORIGINAL, 0, 30.0), made(ORACLE, 0, 29.0)]), WORDS)
    assert [row[1] for row in shown.table.rows] == ["30.00", "29.00"]


def test_band_and_gaps_against_numpy(main):
    band = tables.band(main, WORDS).rows
    gaps = tables.gaps(main, band, WORDS, seed=3).rows
    oracle = array(main, NEVER_SAW, "KTA", "psnr")
    row = find(band, cohort="KTA", metric="psnr")
    assert (row.low, row.high) == pytest.approx((oracle.mean(axis=1).min(), oracle.mean(axis=1).max()))
    row = find(gaps, model="FT", cohort="KTA", metric="psnr")
    own = array(main, "FT", "KTA", "psnr")
    assert row.difference == pytest.approx((own.mean(axis=0) - oracle.mean(axis=0)).mean(), rel=1e-9)
    assert row.low <= row.difference <= row.high
    assert row.patients == 2
    inside = oracle.mean(axis=1).min() <= own.mean() <= oracle.mean(axis=1).max()
    assert row.within_band == inside
    assert gaps.equals(tables.gaps(main, band, WORDS, seed=3).rows)


def test_a_single_oracle_has_no_band():
    main = helpers.study(oracles=1).at(helpers.MAIN)
    gaps = tables.gaps(main, tables.band(main, WORDS).rows, WORDS, seed=0)
    assert gaps.rows.within_band.isna().all()
    assert not any("•" in cell for row in gaps.table.rows for cell in row)


def test_efficiency_is_relative_to_training_the_oracle(main):
    row = find(effort.costs(main).rows, model="NL")
    assert row.passes_share == pytest.approx(60 / 2700)
    assert row.seconds_share == pytest.approx(2 / 90)


def test_knowledge_gap(main, quality):
    row = find(tables.knowledge(quality.rows, WORDS).rows, cohort="KTA", metric="psnr")
    means = {role: array(main, name, "KTA", "psnr").mean() for role, name in NAMES.items()}
    for role, mean in means.items():
        assert getattr(row, role) == pytest.approx(mean)
    assert row.original_minus_oracle == pytest.approx(means[ORIGINAL] - means[ORACLE])


def test_fractions_and_fits(study):
    rows = effort.fractions(study, ["fine_tune"], WORDS).rows
    assert list(rows.retain_fraction) == [0.05, 0.1, 0.5, 1.0]
    assert rows.BTA_psnr.iloc[1] == pytest.approx(array(study.at(helpers.MAIN), "FT", "BTA", "psnr").mean())
    assert list(rows.passes) == [18, 33, 153, 303]
    expected = np.polyfit(np.log10(rows.retain_fraction), rows.BTA_psnr, 2)
    fit = effort.fits(rows)["FT", "BTA_psnr"]
    np.testing.assert_allclose([fit.a, fit.b, fit.c], expected)


def test_files_hold_every_digit_and_read_well(quality, tmp_path):
    quality.write(tmp_path / "quality")
    with open(tmp_path / "quality.csv", newline="") as file:
        assert [float(row["mean"]) for row in csv.DictReader(file)] == list(quality.rows["mean"])
    text = (tmp_path / "quality.md").read_text().splitlines()
    assert text[0].startswith("| model | brain kept PSNR [dB] | brain kept SSIM |")
    assert len(text) == 2 + 6
    assert len({line.count("|") for line in text}) == 1


def test_text_from_outside_stays_text(tmp_path):
    facts, rows = made(UNLEARNED, 0, 29.0, method="=HYPERLINK(1)<img src=x>")
    tables.quality(collect([(facts, rows)]), WORDS).write(tmp_path / "quality")
    with open(tmp_path / "quality.csv", newline="") as file:
        assert {row["model"] for row in csv.DictReader(file)} == {"'=HYPERLINK(1)<img src=x>"}
    assert "<img" not in (tmp_path / "quality.md").read_text()


def test_the_frontier_by_hand():
    oracles = [made(ORACLE, 0, 30.0, 31.0), made(ORACLE, 1, 32.0, 35.0)]
    budgets = [made(UNLEARNED, 0, 30.0, 33.0, budget=0.5), made(UNLEARNED, 1, 33.0, 37.0, budget=0.5)]
    shown = effort.frontier(collect([*oracles, made(UNLEARNED, 0, 10.0, 10.0), *budgets]), WORDS)
    assert len(shown.rows) == 2 * 3 * 2
    row = find(shown.rows, state="delivered", cohort="UA", metric="psnr")
    assert (row.model, row.budget, row.seeds) == ("FT", 0.5, 2)
    assert (row.gap, row.lowest, row.highest) == (0.5, -1.0, 2.0)
    row = find(shown.rows, state="later", cohort="BTA", metric="ssim")
    assert (row.gap, row.lowest, row.highest) == pytest.approx((0.02, 0.0, 0.04))
    assert shown.table.columns[:3] == ["model", "passes", "brain kept"]
    assert shown.table.rows[0][2] == "+0.50 (−1.00 to +2.00) / +0.005 (−0.010 to +0.020)"


def test_without_further_training_the_frontier_is_of_what_is_delivered():
    oracle = made(ORACLE, 0, 30.0)
    rows = effort.frontier(collect([oracle, made(UNLEARNED, 0, 30.0, budget=0.1)]), WORDS).rows
    assert set(rows.state) == {"delivered"}
    assert effort.frontier(collect([oracle]), WORDS).rows.empty


@pytest.mark.parametrize(
    "found",
    [
        [],
        [made(ORIGINAL, 0, 30.0)],
        [made(ORACLE, 0, 30.0), made(ORACLE, 1, 31.0)],
        [made(ORIGINAL, 0, 30.0), made(ORACLE, 0, 30.0, 31.0)],
        [made(ORIGINAL, 0, 30.0), made(UNLEARNED, 0, 29.0)],
    ],
)
def test_whatever_is_missing_the_rest_is_written(found, tmp_path):
    results = collect(found)
    outcome = Outcome([], {}, results, {"fine_tune": 0.1}, ["fine_tune"])
    shown, fits = make_tables(outcome, results.at(outcome.main_fractions), WORDS, seed=0)
    for name, table in shown.items():
        table.write(tmp_path / name)
        assert (tmp_path / f"{name}.csv").read_text().count("\n") == 1 + len(table.rows)
    assert shown["ranking"].rows.empty
    draw_charts(shown, fits, tmp_path / "figures", WORDS)
