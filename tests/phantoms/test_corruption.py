"""Corrupted acquisitions: what changes, and what must not."""

import numpy as np
import pytest

from scripts.phantoms.acquisition import Scan, ifft2c
from scripts.phantoms.corruption import acquire_moving, acquire_with_spikes, interleave, moved, with_spikes

MATRIX = (24, 20)
CLEAN = 1e9  # SNR


@pytest.fixture
def image() -> np.ndarray:
    """Random blocks, with nothing near the border."""
    blocks = np.kron(np.random.default_rng(0).uniform(0.2, 1, (6, 5)), np.ones((4, 4)))
    return np.pad(blocks, ((12, 12), (10, 10))).astype(np.float32)


def scan_of(image: np.ndarray, snr: float) -> Scan:
    return Scan(image, matrix=MATRIX, num_coils=3, snr=snr, rng=np.random.default_rng(1))


def test_an_object_that_does_not_move_is_returned_as_it_is(image):
    assert np.array_equal(moved(image, 0.0, (0.0, 0.0)), image)


@pytest.mark.parametrize("shift", [(3, 0), (0, -2), (-4, 5)])
def test_a_shift_by_whole_pixels_moves_the_pixels(image, shift):
    assert np.allclose(moved(image, 0.0, shift), np.roll(image, shift, axis=(0, 1)), atol=1e-6)


def test_a_quarter_turn_is_numpys_quarter_turn_about_the_centre():
    square = np.random.default_rng(0).uniform(size=(15, 15)).astype(np.float32)
    assert np.allclose(moved(square, np.pi / 2, (0, 0)), np.rot90(square), atol=1e-5)


def test_columns_come_from_the_shots_in_turn():
    shots = [np.full((2, 3, 7), number) for number in range(3)]
    assert interleave(shots)[1, 2].tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_without_motion_the_scan_is_the_clean_one(image):
    scan = scan_of(image, CLEAN)
    still = acquire_moving(scan, image, np.random.default_rng(2), rotation=0.0, shift=0.0)
    clean = scan.acquire(image, np.random.default_rng(3))
    assert np.allclose(still, clean, atol=1e-6 * np.abs(clean).max())


def test_motion_leaves_the_columns_of_the_first_shot_and_changes_the_others(image):
    scan = scan_of(image, CLEAN)
    moving = acquire_moving(scan, image, np.random.default_rng(2), shots=4)
    error = np.abs(moving - scan.acquire(image, np.random.default_rng(3))).max(axis=(0, 1))
    assert error[::4].max() < 1e-6 * np.abs(moving).max()
    assert all(error[number::4].max() > 1e-2 * np.abs(moving).max() for number in (1, 2, 3))


def test_the_noise_of_a_moving_scan_is_that_of_any_scan():
    nothing = np.zeros((32, 32), np.float32)
    scan = scan_of(np.ones((32, 32), np.float32), snr=10.0)
    noise = acquire_moving(scan, nothing, np.random.default_rng(2))
    assert noise.real.std() == pytest.approx(scan.noise_std, rel=0.1)


def test_spikes_are_confined_to_their_samples_and_seen_by_all_coils(image):
    kspace = scan_of(image, 20.0).acquire(image, np.random.default_rng(3))
    before = kspace.copy()
    error = np.abs(with_spikes(kspace, np.random.default_rng(4), count=5, level=(0.1, 0.4)) - kspace)
    assert np.array_equal(kspace, before)
    assert ((error > 0).sum(axis=(1, 2)) == 5).all()
    assert ((error > 0) == (error > 0)[0]).all()
    size = error[error > 0] / np.abs(kspace).max()
    assert size.min() > 0.0999
    assert size.max() < 0.4001


def test_one_spike_lays_one_plane_wave_over_each_coil_image(image):
    kspace = scan_of(image, CLEAN).acquire(image, np.random.default_rng(3))
    stripes = np.abs(ifft2c(with_spikes(kspace, np.random.default_rng(4), count=1, level=(0.2, 0.2)) - kspace))
    assert np.allclose(stripes, 0.2 * np.abs(kspace).max() / np.sqrt(np.prod(MATRIX)), rtol=1e-3)


@pytest.mark.parametrize("acquire", [acquire_moving, acquire_with_spikes])
def test_the_generator_decides_everything(image, acquire):
    scan = scan_of(image, 20.0)
    first, again, other = (acquire(scan, image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.dtype == np.complex64
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
