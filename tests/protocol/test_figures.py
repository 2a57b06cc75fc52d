import pytest
from matplotlib.image import imread

from scripts.protocol import effort, quality
from scripts.protocol.curves import dynamics_curves, fraction_curves, frontier_curves
from scripts.protocol.frontier import frontier_rows
from scripts.protocol.results import main_results
from scripts.protocol.summary_figures import pareto, radar
from tests.protocol import helpers
from tests.protocol.test_tables import made


@pytest.fixture(scope="module")
def rows():
    results = helpers.study()
    groups = main_results(results, helpers.MAIN)
    fractions = effort.fraction_rows(results, ["fine_tune"])
    return {
        "quality": quality.quality_rows(groups),
        "gaps": quality.gap_rows(groups, 0),
        "band": quality.band_rows(groups),
        "efficiency": effort.cost_rows(groups),
        "fractions": fractions,
        "fits": effort.fits(fractions),
        "frontier": frontier_rows(
            [made("oracle", 0, 30, 31), made("unlearned", 0, 29, 33, 0.1), made("unlearned", 0, 30, 32, 0.5)]
        ),
        "dynamics": effort.epoch_rows(results, results[0]),
    }


FIGURES = {
    "radar": (radar, "quality", "efficiency"),
    "pareto": (pareto, "gaps", "band"),
    "fractions": (fraction_curves, "fractions", "fits"),
    "frontier": (frontier_curves, "frontier"),
    "dynamics": (dynamics_curves, "dynamics", "band"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_drawn_alike_each_time(rows, name, tmp_path):
    draw, *data = FIGURES[name]
    for stem in ("a", "b"):
        assert draw(*(rows[key] for key in data), tmp_path / stem)
    for suffix in (".svg", ".png"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    picture = imread(tmp_path / "a.png")
    assert picture.shape[1] >= 1000
    assert picture.std() > 0.02


@pytest.mark.parametrize("name", FIGURES)
def test_without_results_nothing_is_drawn(rows, name, tmp_path):
    draw, *data = FIGURES[name]
    empty = [type(rows[key])() for key in data]
    assert not draw(*empty, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
