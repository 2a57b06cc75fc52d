import math

import numpy as np
import pytest

from scripts.protocol.statistics import bootstrap_interval, mean_over_seeds, mean_std, quadratic_fit


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


def test_bootstrap_draws_patients_with_all_their_volumes():
    differences = {"a1": 1.0, "a2": 3.0, "b": -1.0, "c": 0.5}
    patients = {"a1": "A", "a2": "A", "b": "B", "c": ""}
    groups = [[1.0, 3.0], [-1.0], [0.5]]
    rng = np.random.default_rng(7)
    means = [np.mean([x for i in rng.integers(3, size=3) for x in groups[i]]) for _ in range(2000)]
    expected = np.percentile(means, [2.5, 97.5])
    np.testing.assert_allclose(bootstrap_interval(differences, patients, seed=7), expected, rtol=1e-12)
    assert bootstrap_interval(differences, patients, seed=7) == bootstrap_interval(differences, patients, seed=7)
    assert all(math.isnan(end) for end in bootstrap_interval({"x": 1.0, "y": 2.0}, {"x": "P", "y": "P"}, seed=0))
