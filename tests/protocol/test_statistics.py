import numpy as np
import pytest

from scripts.evaluation.results import mean_std
from scripts.protocol.effort import quadratic_fit
from scripts.protocol.quality import mean_over_seeds


def test_means_against_numpy():
    rng = np.random.default_rng(0)
    seeds = [dict(zip("abcde", rng.normal(size=5).tolist(), strict=True)) for _ in range(3)]
    own = mean_over_seeds(seeds)
    table = np.array([[seed[v] for v in "abcde"] for seed in seeds])
    np.testing.assert_allclose(list(own.values()), table.mean(axis=0), rtol=1e-12)
    mean, std = mean_std(list(own.values()))
    assert (mean, std) == pytest.approx((table.mean(), table.mean(axis=0).std(ddof=1)), rel=1e-12)
    assert mean_std([2.0]) == (2.0, 0.0)


@pytest.mark.parametrize(("sign", "best"), [(-1.0, "max"), (1.0, "min")])
def test_fit_finds_the_vertex_in_closed_form(sign, best):
    fractions = np.array([0.01, 0.05, 0.1, 0.2, 0.5, 1.0])
    u = np.log10(fractions)
    values = sign * 2.0 * (u + 0.7) ** 2 + 30.0
    fit = quadratic_fit(fractions, values, best)
    assert fit.inside
    assert fit.optimum == pytest.approx(10**-0.7, rel=1e-9)
    assert fit.value == pytest.approx(30.0, rel=1e-12)
    np.testing.assert_allclose(fit(fractions), values, rtol=1e-9)


def test_fit_without_a_vertex_in_range_ends_at_the_better_end():
    fit = quadratic_fit([0.1, 0.2, 0.5, 1.0], [10.0, 20.0, 30.0, 50.0], "max")
    assert (fit.inside, fit.optimum) == (False, 1.0)
    assert quadratic_fit([0.1, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
