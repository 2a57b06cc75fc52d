import pytest
from matplotlib.image import imread

from scripts.protocol import effort, tables
from scripts.protocol.figures import fraction_curves, frontier_curves, pareto, radar
from scripts.protocol.plan import ORACLE, UNLEARNED
from tests.protocol import helpers
from tests.protocol.helpers import WORDS, collect, made


@pytest.fixture(scope="module")
def rows():
    study = helpers.study()
    main = study.at(helpers.MAIN)
    band, fractions = tables.band(main, WORDS).rows, effort.fractions(study, ["fine_tune"], WORDS).rows
    levels = [(29, 33, 0.1), (30, 32, 0.5)]
    budgets = [made(UNLEARNED, 0, now, later, budget=budget) for now, later, budget in levels]
    return {
        "quality": tables.quality(main, WORDS).rows,
        "gaps": tables.gaps(main, band, WORDS, 0).rows,
        "band": band,
        "efficiency": effort.costs(main).rows,
        "fractions": fractions,
        "fits": effort.fits(fractions),
        "frontier": effort.frontier(collect([made(ORACLE, 0, 30, 31), *budgets]), WORDS).rows,
    }


FIGURES = {
    "radar": (radar, "quality", "efficiency"),
    "pareto": (pareto, "gaps", "band"),
    "fractions": (fraction_curves, "fractions", "fits"),
    "frontier": (frontier_curves, "frontier"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_drawn_alike_each_time(rows, name, tmp_path):
    draw, *data = FIGURES[name]
    for stem in ("a", "b"):
        assert draw(*(rows[key] for key in data), WORDS, tmp_path / stem)
    for suffix in (".svg", ".png"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    picture = imread(tmp_path / "a.png")
    assert picture.shape[1] >= 1000
    assert picture.std() > 0.02


@pytest.mark.parametrize("name", FIGURES)
def test_without_results_nothing_is_drawn(rows, name, tmp_path):
    draw, *data = FIGURES[name]
    empty = [rows[key][:0] if key != "fits" else {} for key in data]
    assert not draw(*empty, WORDS, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
