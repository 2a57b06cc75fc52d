"""The simulated scanner: conventions, geometry, signal-to-noise ratio."""

import numpy as np
import pytest
import torch

from scripts.data.volumes import rss_image
from scripts.kspace.fourier import fft2c as torch_fft2c
from scripts.phantoms.acquisition import (
    OBJECT_LEVEL,
    Scan,
    coil_maps,
    crop_kspace,
    fft2c,
    ifft2c,
    rss_target,
    smooth_phase,
)


def disc(size: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    return (rows**2 + columns**2 < 0.5).astype(np.float32)


def acquire(image: np.ndarray, rng: np.random.Generator, **settings) -> np.ndarray:
    return Scan(image, rng=rng, **settings).acquire(image, rng)


@pytest.mark.parametrize("shape", [(8, 8), (7, 10)])
def test_fft_is_centred_orthonormal_and_agrees_with_the_networks_own(shape):
    rng = np.random.default_rng(0)
    image = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    kspace = fft2c(image)
    assert np.allclose(kspace, torch_fft2c(torch.from_numpy(image)).numpy())
    assert np.allclose(ifft2c(kspace), image)
    assert np.isclose(np.linalg.norm(kspace), np.linalg.norm(image))


@pytest.mark.parametrize(("size", "matrix"), [((8, 8), (5, 4)), ((9, 7), (4, 7)), ((9, 6), (5, 3))])
def test_kspace_crop_keeps_zero_frequency_at_the_centre(size, matrix):
    cropped = crop_kspace(fft2c(np.ones(size)), matrix)
    peak = np.unravel_index(np.abs(cropped).argmax(), matrix)
    assert peak == (matrix[0] // 2, matrix[1] // 2)


def test_coil_maps_are_smooth_and_differ_and_nearer_coils_are_more_local():
    far, near = (coil_maps(6, (48, 40), np.random.default_rng(1), distance) for distance in (1.7, 1.2))
    assert far.shape == (6, 48, 40)
    assert far.dtype == np.complex64
    assert np.isclose(np.sqrt((np.abs(far) ** 2).sum(axis=0)).mean(), 1, atol=1e-5)
    largest_step = float(np.abs(np.diff(far, axis=1)).max())
    assert largest_step < 0.2 * float(np.abs(far).max())
    correlation = np.abs(np.corrcoef(far.reshape(6, -1)))[~np.eye(6, dtype=bool)]
    assert correlation.max() < 0.99
    assert np.abs(near).std() > np.abs(far).std()


def test_phase_is_smooth_and_has_unit_spread():
    phase = smooth_phase((50, 60), np.random.default_rng(2))
    assert np.isclose(phase.std(), 1, atol=1e-3)
    assert max(np.abs(np.diff(phase, axis=axis)).max() for axis in (0, 1)) < 0.6


@pytest.mark.parametrize("snr", [10.0, 40.0])
def test_snr_as_measured_is_the_snr_as_stated(snr):
    settings = {"matrix": (64, 64), "num_coils": 4, "peak": 3e-4}
    noisy = acquire(disc(96), snr=snr, rng=np.random.default_rng(3), **settings)
    clean = acquire(disc(96), snr=1e9, rng=np.random.default_rng(3), **settings)  # same coils and phase
    noise = ifft2c(noisy) - ifft2c(clean)
    rss = rss_target(clean)
    signal = rss[rss >= OBJECT_LEVEL * rss.max()].mean()
    for part in (noise.real, noise.imag):
        for coil in part:
            assert np.isclose(signal / coil.std(), snr, rtol=0.05)
    assert np.isclose(rss.max(), 3e-4, rtol=1e-4)


def test_the_slices_of_a_volume_share_coils_phase_and_gain_and_not_the_noise():
    images = [disc(48)] * 2
    rng = np.random.default_rng(4)
    scan = Scan(images[1], matrix=(48, 48), num_coils=3, snr=30.0, rng=rng)
    (first, target), (second, _) = scan.acquire_all(images, rng)
    assert not np.array_equal(first, second)
    inside = disc(48) > 0
    ratio = ifft2c(first)[:, inside] / ifft2c(second)[:, inside]
    assert np.median(np.abs(ratio - 1)) < 0.2
    assert np.array_equal(target, rss_target(first))


def test_a_finer_grid_is_no_exact_inverse_but_close():
    image = disc(96)
    kspace = acquire(image, matrix=(48, 48), num_coils=4, snr=1e9, rng=np.random.default_rng(5))
    rss = rss_target(kspace) / rss_target(kspace).max()
    coarse = image.reshape(48, 2, 48, 2).mean(axis=(1, 3))
    difference = np.abs(rss - coarse * rss[24, 24])
    assert difference.max() > 0.01  # band limit and coil shading
    assert np.corrcoef(rss.ravel(), coarse.ravel())[0, 1] > 0.9


def test_targets_are_cropped_as_fastmri_does():
    kspace = acquire(disc(32), matrix=(32, 30), num_coils=2, snr=20.0, rng=np.random.default_rng(6))
    assert np.array_equal(rss_image(kspace, (20, 21)), rss_target(kspace)[6:26, 4:25])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"snr": 0.0}, "snr: found 0.0, expected"),
        ({"snr": float("nan")}, "snr: found nan"),
        ({"num_coils": 0}, "num_coils: found 0, expected at least 1"),
        ({"matrix": (33, 16)}, "matrix: found"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    settings = {"matrix": (16, 16), "num_coils": 2, "snr": 20.0, "rng": np.random.default_rng(0), **change}
    with pytest.raises(ValueError, match=message):
        Scan(disc(32), **settings)
