"""Tiny data that every test folder shares."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.data.header import make_header
from scripts.data.volumes import write_volume
from tests.verbs import SMALL, process_as_before, run

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start
torch.set_num_threads(1)  # tiny networks; the tests themselves run side by side


def _fail_skips(report):
    allowed = os.environ.get("ALLOWED_SKIPS")
    if allowed is None or not report.skipped or hasattr(report, "wasxfail"):
        return report
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not (allowed and re.search(allowed, reason)):
        report.outcome, report.longrepr = "failed", f"skipped, which this run does not allow: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With ``ALLOWED_SKIPS`` set, a test that would skip fails, unless the reason matches that expression."""
    return _fail_skips((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """So does a file of tests that would skip as a whole."""
    return _fail_skips((yield))


MATRIX = (32, 30)
CROP = (28, 28)


def kspace_of(images: np.ndarray) -> np.ndarray:
    """Centred orthonormal FFT over the last two axes."""
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))


def tiny_slices(rng: np.random.Generator, count: int, coils: int, upright: bool):
    """Bright bars on a disc: (k-space (C, H, W) complex64, reference image (h, w) float32) per slice."""
    rows, columns = np.mgrid[-1 : 1 : MATRIX[0] * 1j, -1 : 1 : MATRIX[1] * 1j]
    for _ in range(count):
        disc = (rows**2 + columns**2 < rng.uniform(0.6, 0.9)) * rng.uniform(0.4, 0.7)
        bars = 0.3 * (np.sin(12 * (columns if upright else rows) + rng.uniform(0, 6)) > 0)
        image = 3e-4 * disc * (1 + bars)
        phases = np.exp(1j * rng.uniform(0, 6, coils))
        centres = rng.uniform(-1, 1, (coils, 2))
        maps = [
            p * np.exp(-((rows - r) ** 2 + (columns - c) ** 2) / 2) for p, (r, c) in zip(phases, centres, strict=True)
        ]
        kspace = kspace_of(image * np.array(maps))
        noise = rng.normal(size=(2, *kspace.shape)) * 2e-6
        kspace = (kspace + noise[0] + 1j * noise[1]).astype(np.complex64)
        shifted = np.fft.ifftshift(kspace, axes=(-2, -1))
        coil_images = np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(-2, -1))
        rss = np.sqrt((np.abs(coil_images) ** 2).sum(axis=0))
        top, left = (MATRIX[0] - CROP[0]) // 2, (MATRIX[1] - CROP[1]) // 2
        yield kspace, rss[top : top + CROP[0], left : left + CROP[1]].astype(np.float32)


def write_tiny_volume(path: Path, seed: int, *, slices: int = 2, coils: int = 2, upright: bool = True, **attributes):
    header = make_header(matrix=MATRIX, recon=CROP, spacing=(1.0, 1.0), slice_thickness=5.0, num_coils=coils)
    write_volume(
        path,
        tiny_slices(np.random.default_rng(seed), slices, coils, upright),
        num_slices=slices,
        attributes={"acquisition": "TEST", **attributes},
        header=header,
    )


@pytest.fixture
def contained(tmp_path, monkeypatch):
    """Run a test in an empty directory and take back what it leaves in the process."""
    monkeypatch.chdir(tmp_path)
    with process_as_before():
        yield


@pytest.fixture(scope="session")
def tiny_datalist(tmp_path_factory) -> str:
    """Ten brain-like and two knee-like training volumes, and two of each to validate and to test, 32 x 30, 2 coils."""
    root = tmp_path_factory.mktemp("tiny")
    sizes = {"training": {"brain": 10, "knee": 2}, "validation": {"brain": 1}, "test": {"brain": 2, "knee": 2}}
    lists, seed = {}, 0
    for section, counts in sizes.items():
        lists[section] = []
        for anatomy, count in counts.items():
            for _ in range(count):
                name = f"{anatomy}_{seed:03d}.h5"
                write_tiny_volume(root / name, seed, upright=anatomy == "brain", patient_id=f"P{seed:03d}")
                lists[section].append({"kspace": name, "anatomy": anatomy})
                seed += 1
    (root / "datalist.json").write_text(json.dumps(lists))
    return str(root / "datalist.json")


@pytest.fixture(scope="session")
def trained(tiny_datalist, tmp_path_factory) -> Path:
    """Original and oracle of two epochs on the tiny data, and a prior of 40 generic slices, by the train verb."""
    output = tmp_path_factory.mktemp("trained")
    run("train", "prior.yaml", output_dir=str(output), matrix=list(MATRIX), prior_passes=40, train_epochs=2, **SMALL)
    for oracle in (False, True):
        run("train", datalist=tiny_datalist, output_dir=str(output), oracle=oracle, train_epochs=2, **SMALL)
    return output
