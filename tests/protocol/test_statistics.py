import numpy as np
import pytest

from scripts.protocol.effort import quadratic_fit


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
