"""Rules that draw the retain subset by features."""

import numpy as np
import pytest

from scripts.data.slices import SliceDataset
from scripts.data.volumes import Volume
from scripts.requests.retain_subset import KCentre, NearestToForget, RetainSubsetSampler, Stratified


def volume(index: int, forget: bool = False) -> Volume:
    return Volume(f"{index}.h5", f"{index}.h5", (5, 1, 8, 8), (8, 8), None, "matrix", 1.0, {}, forget)


class OnALine:
    """Volume i lies at i."""

    slices_per_volume = 2

    def __call__(self, volumes):
        return np.array([[float(v.name.removesuffix(".h5"))] for v in volumes])


VOLUMES = [volume(i) for i in range(20)]


def positions(subset) -> list[int]:
    return [int(v.name.removesuffix(".h5")) for v in subset]


@pytest.mark.parametrize("seed", range(5))
def test_k_centre_covers_the_line(seed):
    drawn = positions(KCentre(OnALine())(VOLUMES, 0.2, seed))
    assert len(drawn) == 4
    assert {0, 19} & set(drawn)
    assert max(min(abs(i - d) for d in drawn) for i in range(20)) <= 5


def test_k_centre_with_equal_volumes_draws_different_ones():
    class Same(OnALine):
        def __call__(self, volumes):
            return np.zeros((len(volumes), 3))

    assert len(set(positions(KCentre(Same())(VOLUMES, 0.5, 0)))) == 10


def test_nearest_to_forget_is_half_near_and_half_random():
    draws = [positions(NearestToForget(OnALine(), [volume(30, True)])(VOLUMES, 0.4, seed)) for seed in range(5)]
    for drawn in draws:
        assert len(set(drawn)) == 8
        assert {16, 17, 18, 19} <= set(drawn)
    assert len({tuple(drawn) for drawn in draws}) > 1
    assert positions(NearestToForget(OnALine(), [volume(30, True)])(VOLUMES, 0.01, 0)) == [19]
    assert len(NearestToForget(OnALine(), [volume(30, True)])(VOLUMES, 1.0, 0)) == 20


@pytest.mark.parametrize(
    ("selection", "rule", "read"),
    [
        (None, "random by anatomy, acquisition", 0),
        (Stratified([]), "random", 0),
        (KCentre(OnALine()), "k-centre", 40),
        (NearestToForget(OnALine(), [volume(30, True)]), "nearest to forget and random", 40),
    ],
)
def test_sampler_reports_what_the_rule_read(selection, rule, read):
    sampler = RetainSubsetSampler(SliceDataset(VOLUMES), fraction=0.1, seed=0, selection=selection)
    assert sampler.report == {"rule": rule, "slices_read": read}
    assert len(sampler.subset) == 2
