"""Masks: their statistics, their repeatability, MONAI's as a reference, impossible settings."""

import numpy as np
import pytest
import torch
from monai.apps.reconstruction.transforms.array import EquispacedKspaceMask

from scripts.kspace.masks import MASKS, EquispacedFractionMask, EquispacedMask, RandomMask


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("width", [96, 97, 320, 368])
@pytest.mark.parametrize(("acceleration", "center_fraction"), [(4, 0.08), (8, 0.04), (5.5, 0.06)])
def test_centre_is_sampled_and_seed_fixes_the_mask(kind, width, acceleration, center_fraction):
    mask = kind(acceleration, center_fraction)
    columns = mask(width, seed=3)
    low = round(width * center_fraction)
    start = (width - low + 1) // 2
    assert columns.shape == (width,)
    assert columns.dtype == bool
    assert columns[start : start + low].all()
    np.testing.assert_array_equal(columns, mask(width, seed=3))
    assert any((columns != mask(width, seed=seed)).any() for seed in range(4, 12))


@pytest.mark.parametrize(("mask", "rate"), [(RandomMask(8, 0.04), 8.0), (EquispacedFractionMask(8, 0.04), 8.0)])
def test_effective_rate_is_the_nominal_one(mask, rate):
    sampled = np.mean([mask(368, seed).mean() for seed in range(300)])
    assert 1 / sampled == pytest.approx(rate, rel=0.03)


def test_equispaced_samples_more_than_its_nominal_rate():
    mask = EquispacedMask(8, 0.04)
    sampled = np.mean([mask(368, seed).mean() for seed in range(300)])
    assert 1 / sampled == pytest.approx(6.2, abs=0.2)
    outside = mask(320, 0)
    outside[154:167] = False
    assert set(np.diff(np.flatnonzero(outside[:154]))) == {8}


def test_equispaced_fraction_equals_monai():
    """MONAI draws from the same set of masks: one per offset."""
    ours, theirs = EquispacedFractionMask(4, 0.08), EquispacedKspaceMask([0.08], [4], spatial_dims=2, is_complex=True)
    patterns = {ours(96, seed).tobytes() for seed in range(200)}
    for seed in range(20):
        theirs.set_random_state(seed)
        theirs(torch.zeros(1, 96, 96, 2))
        assert theirs.mask.squeeze().numpy().astype(bool).tobytes() in patterns


@pytest.mark.parametrize(
    ("kind", "acceleration", "center_fraction", "width", "message"),
    [
        (RandomMask, 1, 0.1, 96, "'acceleration': expected a number above 1, found 1"),
        (RandomMask, 4, 0.0, 96, "'center_fraction': expected a number between 0 and 1"),
        (RandomMask, 4, 1.0, 96, "'center_fraction': expected a number between 0 and 1"),
        (EquispacedMask, 4, 0.001, 96, "no centre column on 96 columns"),
        (EquispacedMask, 100, 0.08, 96, "'acceleration': expected at most the width, 96"),
        (RandomMask, 8, 0.2, 96, r"the centre alone \(19 columns\) uses up the 12.0 columns"),
        (EquispacedFractionMask, 8, 0.125, 96, r"the centre alone \(12 columns\)"),
    ],
)
def test_impossible_settings(kind, acceleration, center_fraction, width, message):
    with pytest.raises(ValueError, match=message):
        kind(acceleration, center_fraction).check_width(width)
