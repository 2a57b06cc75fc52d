"""Generic scans: pure functions of seed and index, with the statistics that they are meant to have."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from scripts.data import SliceDataset, TrainingLoader, Undersample, inspect_volume, prepare_batch, write_volume
from scripts.kspace.masks import RandomMask
from scripts.networks import VarNet
from scripts.phantoms.acquisition import fft2c, rss_target
from scripts.phantoms.generic import (
    GenericSlices,
    acquire,
    draw_leaves,
    generic_image,
    leaf_radii,
    power_law_field,
    random_coils,
)

MASK = RandomMask(acceleration=3, center_fraction=0.1)


def power_slope(power: np.ndarray, lowest: float, highest: float) -> float:
    """The exponent of a power spectrum (H, W) over the frequency, between two frequencies in periods."""
    rows, columns = (np.fft.fftfreq(n) * n for n in power.shape)
    frequency = np.hypot(rows[:, None], columns[None])
    rings = np.arange(lowest, highest)
    means = [power[(frequency >= r) & (frequency < r + 1)].mean() for r in rings]
    return np.polyfit(np.log(rings + 0.5), np.log(means), 1)[0]


def test_a_slice_follows_from_seed_and_index_alone():
    first = GenericSlices(50, (24, 32), (2, 5), seed=3)
    again = GenericSlices(41, (24, 32), (2, 5), seed=3)
    ahead = {i: first[i] for i in (8, 40, 2, 17)}
    for i in sorted(ahead):
        item = again[i]
        assert torch.equal(item["kspace"], ahead[i]["kspace"])
        assert torch.equal(item["target"], ahead[i]["target"])
    assert not torch.equal(ahead[8]["target"], ahead[2]["target"])
    assert not torch.equal(ahead[8]["target"], GenericSlices(50, (24, 32), (2, 5), seed=4)[8]["target"])


def test_items_are_those_of_real_slices(tmp_path):
    kspace = np.ones((4, 24, 32), np.complex64)
    write_volume(tmp_path / "a.h5", [(kspace, rss_target(kspace))], num_slices=1, attributes={})
    real = SliceDataset([inspect_volume(tmp_path / "a.h5")])
    made = GenericSlices(1, (24, 32), 4)
    for transform in (None, Undersample(MASK), Undersample(MASK, seed=0)):
        real.transform = made.transform = transform
        ours, theirs = made[0], real[0]
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            assert type(ours[key]) is type(value), key
            if isinstance(value, torch.Tensor):
                assert (ours[key].shape, ours[key].dtype) == (value.shape, value.dtype), key


def test_the_target_is_what_the_full_kspace_shows():
    for item in (GenericSlices(20, (24, 32), (1, 6))[i] for i in range(20)):
        assert np.allclose(item["target"][0], rss_target(item["kspace"].numpy()))
        assert item["target"].max() == item["max_value"] > 0


def test_a_network_takes_a_batch():
    loader = TrainingLoader(GenericSlices(4, (24, 32), 3, transform=Undersample(MASK)), batch_size=2, shuffle=False)
    network = VarNet(num_cascades=1, chans=2, pools=1, sens_chans=2, sens_pools=1)
    inputs, label, args, _ = prepare_batch(next(iter(loader)))
    assert network(inputs, *args).shape == label["target"].shape == (2, 1, 24, 32)


def test_passing_over_a_slice_draws_what_reading_it_draws():
    slices = GenericSlices(3, (16, 16), 2, transform=Undersample(MASK))
    torch.manual_seed(0)
    slices[1], slices[2]
    after = torch.get_rng_state()
    torch.manual_seed(0)
    slices.pass_over(1), slices.pass_over(2)
    assert torch.equal(torch.get_rng_state(), after)


def test_radii_follow_the_scale_invariant_law():
    low, high = 0.03, 0.7
    radii = leaf_radii(20_000, (low, high), np.random.default_rng(0))
    law = kstest(radii, lambda r: (low**-2 - np.asarray(r) ** -2) / (low**-2 - high**-2))  # the integral of r^-3
    assert law.pvalue > 0.01
    flat = kstest(radii, "uniform", (low, high - low))
    assert flat.pvalue < 1e-6


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_fields_have_the_spectrum_that_is_asked_for(exponent):
    rng = np.random.default_rng(1)
    fields = [power_law_field((64, 64), exponent, rng) for _ in range(20)]
    power = np.mean([np.abs(np.fft.fft2(field)) ** 2 for field in fields], axis=0)
    assert power_slope(power, 3, 25) == pytest.approx(-2 * exponent, abs=0.15)
    assert np.isclose(np.std(fields), 1, atol=1e-3)
    assert abs(np.mean(fields)) < 1e-3


def test_images_have_spectra_like_natural_ones():
    """Of power from f^-2 to f^-3 (Ruderman 1994); white noise has 0 and a smooth object falls faster."""
    rng = np.random.default_rng(2)
    fields = [draw_leaves((144, 144), rng) for _ in range(6)]
    images = [generic_image(fields[i % 6], (96, 96), rng) for i in range(60)]
    power = np.mean([np.abs(np.fft.fft2(image)) ** 2 for image in images], axis=0)
    assert -3.2 < power_slope(power, 3, 40) < -1.8
    assert min(image.min() for image in images) == 0
    assert all(image.max() == 1 for image in images)
    corners = [image[0, 0] == image[-1, 0] == image[0, -1] == image[-1, -1] == 0 for image in images]
    assert 0.5 < np.mean(corners) < 1  # most have an outline, not all


@pytest.mark.parametrize("level", [0.001, 0.05])
def test_noise_has_the_level_that_is_asked_for(level):
    image = np.kron(np.eye(4), np.ones((24, 24)))
    clean, noisy = (
        acquire(image, (48, 48), 4, np.random.default_rng(5), (share, share), (2.0, 2.0)) for share in (1e-9, level)
    )
    assert rss_target(clean).max() == pytest.approx(2.0, rel=1e-5)
    noise = noisy - clean
    assert noise.real.std() == pytest.approx(2.0 * level, rel=0.05)
    assert noise.imag.std() == pytest.approx(2.0 * level, rel=0.05)


def test_noise_is_log_uniform_between_its_limits():
    levels = []
    for seed in range(200):
        clean, noisy = (
            acquire(np.eye(16), (8, 8), 4, np.random.default_rng(seed), noise, (1.0, 1.0))
            for noise in ((1e-9, 1e-9), (0.001, 0.05))
        )
        levels.append((noisy - clean).std() / np.sqrt(2))
    assert min(levels) > 0.0008
    assert max(levels) < 0.06
    assert np.median(levels) == pytest.approx(np.sqrt(0.001 * 0.05), rel=0.35)


def test_coils_are_as_many_as_asked_smooth_and_unlike_each_other():
    found = {GenericSlices(40, (16, 16), (2, 4))[i]["kspace"].shape[0] for i in range(40)}
    assert found == {2, 3, 4}
    for seed in range(12):
        maps = random_coils(5, (64, 64), np.random.default_rng(seed))
        assert maps.shape == (5, 64, 64)
        assert np.isfinite(maps).all()
        energy = np.abs(fft2c(maps * np.hanning(64)[:, None] * np.hanning(64))) ** 2
        assert energy[:, 26:39, 26:39].sum() > 0.98 * energy.sum()
        flat = maps.reshape(5, -1) / np.linalg.norm(maps.reshape(5, -1), axis=1, keepdims=True)
        assert np.abs(flat @ flat.conj().T - np.eye(5)).max() < 0.9999


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"length": 0}, "'length'.*found 0"),
        ({"matrix": (4, 32)}, "'matrix'.*4"),
        ({"matrix": (32, 32, 32)}, "'matrix'"),
        ({"num_coils": 0}, "'num_coils'.*0"),
        ({"num_coils": (4, 2)}, "'num_coils'"),
        ({"noise": (0.05, 0.001)}, "'noise'"),
        ({"noise": (0.0, 0.1)}, "'noise'"),
        ({"noise": (0.1, float("nan"))}, "'noise'"),
        ({"peak": (-1.0, 1.0)}, "'peak'"),
        ({"seed": -1}, "'seed'.*-1"),
    ],
)
def test_impossible_settings_are_named(settings, named):
    with pytest.raises(ValueError, match=named):
        GenericSlices(**{"length": 1, "matrix": (16, 16), **settings})


def test_there_is_no_slice_beyond_the_last():
    with pytest.raises(IndexError, match="below 2"):
        GenericSlices(2, (16, 16))[2]
