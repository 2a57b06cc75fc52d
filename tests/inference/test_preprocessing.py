"""Preprocessing of measured raw data: against its definition, and against BART."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from scripts.inference import open_raw
from scripts.inference.slice_kspace import NoiseCovariance
from tests.conftest import kspace_of
from tests.inference.raw_files import make_kspace, write_ismrmrd

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "kspace"
SCANS = ["brain_mripy_8coil", "brain_moco_7coil", "brain_iraki_prescan_16coil"]
needs_bart = pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed (Debian package bart)")
needs_ismrmrd_tools = pytest.mark.skipif(
    shutil.which("ismrmrd_generate_cartesian_shepp_logan") is None,
    reason="ismrmrd_generate_cartesian_shepp_logan is not installed (Debian package ismrmrd-tools)",
)


def images_of(kspace: np.ndarray) -> np.ndarray:
    """Coil images of (…, H, W)."""
    shifted = np.fft.ifftshift(kspace, axes=(-2, -1))
    return np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(-2, -1))


def rss(images: np.ndarray) -> np.ndarray:
    return np.sqrt((np.abs(images) ** 2).sum(axis=-3))


def correlated_noise(rng, coils: int, samples: int) -> np.ndarray:
    mixing = rng.normal(size=(coils, coils)) + 1j * rng.normal(size=(coils, coils)) + 2 * np.eye(coils)
    return mixing @ (rng.normal(size=(coils, samples)) + 1j * rng.normal(size=(coils, samples)))


class Bart:
    """BART on arrays (x, y, z, coil), exchanged by its file format: a header of sizes and Fortran-ordered values."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, command: str, *inputs: np.ndarray) -> np.ndarray:
        for number, values in enumerate(inputs):
            self.folder.joinpath(f"in{number}.hdr").write_text("# Dimensions\n" + " ".join(map(str, values.shape)))
            values.astype(np.complex64).ravel(order="F").tofile(self.folder / f"in{number}.cfl")
        names = [f"in{number}" for number in range(len(inputs))]
        subprocess.run(["bart", *command.split(), *names, "out"], cwd=self.folder, check=True, capture_output=True)
        shape = [int(n) for n in (self.folder / "out.hdr").read_text().splitlines()[1].split()]
        return np.fromfile(self.folder / "out.cfl", np.complex64).reshape(shape, order="F").squeeze()


def bart_image(bart: Bart, kspace: np.ndarray, noise: np.ndarray | None, height: int) -> np.ndarray:
    """BART's root-sum-of-squares image (height, W) of one slice (C, H, W), prewhitened."""
    values = kspace.transpose(1, 2, 0)[:, :, None]
    if noise is not None:
        values = bart("whiten", values, noise.T[:, None, None])[:, :, None]
    coils = bart("fft -u -i 3", values)[:, :, None]
    return bart("rss 8", bart(f"resize -c 0 {height}", coils)[:, :, None]).real


def assert_proportional(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """Equal but for one factor; BART whitens to variance one, this code keeps the scale of the raw data."""
    factor = (found * expected).sum() / (expected * expected).sum()
    assert np.abs(found - factor * expected).max() < tolerance * found.max()


def write_scan(path: Path, kspace: np.ndarray, noise: np.ndarray, **settings) -> None:
    """ISMRMRD with noise readouts before those of the image."""
    starts = range(0, noise.shape[1] - 63, 64)
    write_ismrmrd(path, kspace, noise=[noise[:, start : start + 64] for start in starts], **settings)


def test_whitened_noise_is_white_and_keeps_its_scale():
    noise = correlated_noise(np.random.default_rng(0), 6, 5000)
    estimate = NoiseCovariance()
    estimate.add(noise[:, :3000])
    estimate.add(noise[:, 3000:])
    white = estimate.whitening_matrix() @ noise
    covariance = white @ white.conj().T / noise.shape[1]
    np.testing.assert_allclose(covariance, covariance[0, 0].real * np.eye(6), atol=1e-5 * covariance[0, 0].real)
    before = np.linalg.slogdet(noise @ noise.conj().T)[1]
    assert np.linalg.slogdet(white @ white.conj().T)[1] == pytest.approx(before, abs=1e-4)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (np.ones((2, 4)), "expected at least 10 noise samples for each of 2 channels, found 4"),
        (np.ones((2, 40)), "found channels that copy others or are silent"),
        (np.full((2, 40), np.nan), "expected finite noise, found NaN"),
    ],
)
def test_noise_that_cannot_whiten_is_named(noise, message):
    estimate = NoiseCovariance()
    estimate.add(noise)
    with pytest.raises(ValueError, match=message):
        estimate.whitening_matrix()


def test_unusable_noise_leaves_the_scan_as_it_is_and_says_so(tmp_path):
    write_ismrmrd(tmp_path / "scan.h5", make_kspace())  # its noise is one constant
    raw = open_raw(tmp_path / "scan.h5")[0]
    assert raw.whitening is None
    assert raw.notes[0].startswith("not prewhitened: noise readouts: expected")


def test_noise_after_the_image_is_not_used(tmp_path):
    noise = correlated_noise(np.random.default_rng(1), 2, 64)
    write_scan(tmp_path / "before.h5", make_kspace(), noise)
    write_ismrmrd(tmp_path / "after.h5", make_kspace(), noise=[], noise_after=[noise])
    assert open_raw(tmp_path / "before.h5")[0].notes == ("prewhitened",)
    assert open_raw(tmp_path / "after.h5")[0].notes == (
        "not prewhitened: noise readouts: expected noise readouts, found none",
    )


def test_oversampling_is_removed_and_the_image_stays(tmp_path):
    kspace = make_kspace(slices=1)
    write_ismrmrd(tmp_path / "scan.h5", kspace)
    kept, removed = (open_raw(tmp_path / "scan.h5", remove_oversampling=flag)[0] for flag in (False, True))
    assert (kept.shape[-2:], removed.shape[-2:]) == ((64, 32), (32, 32))
    assert kept.crop == removed.crop == (32, 32)
    expected = images_of(kept.read(0))[:, 16:48]
    np.testing.assert_allclose(images_of(removed.read(0)), expected, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_array_equal(kept.geometry.positions, removed.geometry.positions)


def test_odd_sizes_keep_their_centre(tmp_path):
    """A point at the origin of the transform stays there."""
    image = np.zeros((1, 1, 54, 31))
    image[..., 27, 15] = 1
    write_ismrmrd(tmp_path / "scan.h5", kspace_of(image).astype(np.complex64))  # 54 rows become 27
    found = np.abs(images_of(open_raw(tmp_path / "scan.h5")[0].read(0)))
    assert np.unravel_index(found.argmax(), found.shape) == (0, 13, 15)


def test_partial_fourier_is_zero_filled_and_said(tmp_path):
    kspace = make_kspace(slices=1)
    write_ismrmrd(tmp_path / "scan.h5", kspace, columns=range(10, 32))
    raw = open_raw(tmp_path / "scan.h5", remove_oversampling=False)[0]
    assert "partial Fourier: 10 columns before and 0 after the measured ones are zero" in raw.notes
    np.testing.assert_array_equal(raw.read(0)[:, :, 10:], kspace[0, :, :, 10:])
    assert not raw.read(0)[:, :, :10].any()
    write_ismrmrd(tmp_path / "regular.h5", kspace, columns=range(3, 32, 4))  # no edge is farther than the step
    assert len(open_raw(tmp_path / "regular.h5")[0].notes) == 1


def test_counters_make_series_of_their_own(tmp_path):
    def change(readout):
        readout.idx.repetition, readout.idx.contrast = readout.idx.slice // 2, readout.idx.slice % 2
        readout.idx.slice = 0

    kspace = make_kspace(slices=4)
    write_ismrmrd(tmp_path / "scan.h5", kspace, change=change)
    series = open_raw(tmp_path / "scan.h5", remove_oversampling=False)
    suffixes = [f"_contrast-{contrast}_repetition-{repetition}" for contrast in (0, 1) for repetition in (0, 1)]
    assert [raw.suffix for raw in series] == suffixes
    for raw, source in zip(series, (0, 2, 1, 3), strict=True):
        assert raw.num_slices == 1
        np.testing.assert_array_equal(raw.read(0), kspace[source])


@needs_bart
@needs_ismrmrd_tools
@pytest.mark.parametrize("acceleration", [1, 2])
def test_shepp_logan_of_ismrmrd_tools_equals_bart(tmp_path, acceleration):
    import ismrmrd

    command = f"ismrmrd_generate_cartesian_shepp_logan -m 64 -c 4 -r 2 -C -a {acceleration} -o scan.h5"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    with ismrmrd.Dataset(str(tmp_path / "scan.h5"), "dataset", create_if_needed=False) as dataset:
        readouts = [dataset.read_acquisition(i) for i in range(dataset.number_of_acquisitions())]
    noise = next(r.data for r in readouts if r.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT))
    series = open_raw(tmp_path / "scan.h5")
    assert len(series) == 2 * acceleration
    for repetition, raw in enumerate(series):
        kspace = np.zeros((4, 128, 64), np.complex64)
        for readout in readouts:
            if readout.idx.repetition == repetition and not readout.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT):
                kspace[:, :, readout.idx.kspace_encode_step_1] = readout.data
        assert raw.notes == ("prewhitened",)
        assert_proportional(rss(images_of(raw.read(0))), bart_image(Bart(tmp_path), kspace, noise, 64))


@needs_bart
@pytest.mark.skipif(not DATA.is_dir(), reason=f"measured k-space is not there ({DATA.parent.name}/kspace)")
@pytest.mark.parametrize("name", SCANS)
def test_real_coils_equal_bart(tmp_path, name):
    """Measured k-space written as ISMRMRD; the samples farthest from the centre stand for the noise readouts."""
    kspace = np.load(DATA / f"{name}.npy")[:1]
    noise = np.ascontiguousarray(kspace[0][:, :8].reshape(kspace.shape[1], -1))
    noise = noise[:, np.abs(noise).sum(axis=0) > 0]
    write_scan(tmp_path / "scan.h5", kspace, noise)
    raw = open_raw(tmp_path / "scan.h5")[0]
    used = noise[:, : len(noise[0]) // 64 * 64]
    expected = bart_image(Bart(tmp_path), kspace[0], used, kspace.shape[2] // 2)
    assert raw.notes[0] == "prewhitened"
    assert_proportional(rss(images_of(raw.read(0))), expected)
    plain = rss(images_of(kspace[0]))[kspace.shape[2] // 2 - kspace.shape[2] // 4 :][: kspace.shape[2] // 2]
    factor = (expected * plain).sum() / (plain * plain).sum()
    assert np.abs(expected - factor * plain).max() > 1e-3 * expected.max()  # prewhitening does something here
