"""The built-in data: synthetic brain-like (retain) and knee-like (forget) scans in fastMRI's format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import joblib
import nibabel as nib
import numpy as np
from tqdm import tqdm

from scripts.data.header import make_header
from scripts.data.volumes import write_volume
from scripts.phantoms.acquisition import Scan, check_scan
from scripts.phantoms.anatomy_brain import brain_slices
from scripts.phantoms.anatomy_knee import knee_slices
from scripts.phantoms.cache import cached_folder
from scripts.run.files import check_disk_space

GENERATOR_VERSION = 6
"""Raise it whenever the same settings would give other files: cached phantoms are then made again."""

FINENESS = 2
JOBS = joblib.cpu_count()
SPACING = {"brain": 2.4, "knee": 1.7}
COIL_DISTANCE = {"brain": (1.25, 1.8), "knee": (1.25, 1.5)}
"""The range of the coils' mean distance; a knee coil sits closer than a head coil."""
SLICE_THICKNESS = 4.0
ACQUISITIONS = {"brain": {"AXT2": 0.6, "AXT1": 0.2, "AXFLAIR": 0.2}, "knee": {"SAGPD": 0.7, "SAGPDFS": 0.3}}
"""The share of each acquisition among the volumes of an anatomy."""


def phantom_datalist(
    cache_dir: str | Path | None = None,
    *,
    num_training: Mapping[str, int] | None = None,
    num_validation: Mapping[str, int] | None = None,
    num_test: Mapping[str, int] | None = None,
    slices_per_volume: int = 3,
    matrix: Sequence[int] = (96, 96),
    num_coils: int = 6,
    snr: Sequence[float] = (20.0, 60.0),
    seed: int = 0,
) -> str:
    """Make the phantom scans, or find those made before, and return the path of their datalist.

    The files depend on nothing but these settings. The folder appears only when it is complete, so two processes may
    make it at the same time.

    Args:
        cache_dir: The folder under which the files lie, in ``phantom-<hash of the settings>``. None: the environment
            variable ``MRI_UNLEARNING_CACHE``, else ``~/.cache/mri-unlearning``.
        num_training: The number of training volumes of each anatomy, by default ``{"brain": 60, "knee": 10}``; an
            anatomy that is left out counts 0.
        num_validation: The same of validation volumes, by default 2 brains and 1 knee.
        num_test: The same of test volumes, by default 12 brains and 12 knees.
        slices_per_volume: The number of neighbouring slices of one object.
        matrix: The size (H, W) of the k-space; the object is drawn on a grid twice as fine.
        num_coils: The number of receive channels.
        snr: The range of a volume's SNR (see :class:`scripts.phantoms.acquisition.Scan`), which is log-uniform.
        seed: The seed of everything that is drawn.

    Returns:
        The path of ``datalist.json``: ``{"kspace", "patient_id", "anatomy", "acquisition"}`` per volume.

    Raises:
        ValueError: A setting is impossible; the message names it.
        OSError: The disk is too small.
    """
    numbers = {
        "training": num_training or {"brain": 60, "knee": 10},
        "validation": num_validation or {"brain": 2, "knee": 1},
        "test": num_test or {"brain": 12, "knee": 12},
    }
    settings = {
        "version": GENERATOR_VERSION,
        "volumes": {
            section: checked_numbers(f"num_{section}", counts, ACQUISITIONS) for section, counts in numbers.items()
        },
        "slices_per_volume": int(slices_per_volume),
        "matrix": [int(n) for n in matrix],
        "num_coils": int(num_coils),
        "snr": [float(value) for value in snr],
        "seed": int(seed),
    }
    _check(settings)
    folder = cached_folder(cache_dir, "phantom", settings, lambda folder: _write_scans(folder, settings))
    return str(folder / "datalist.json")


def phantom_images(
    cache_dir: str | Path | None = None, *, shape: Sequence[int] = (192, 192), num_slices: int = 24, seed: int = 0
) -> list[dict[str, str]]:
    """Magnitude phantoms (two brains, one knee) as NIfTI files, the default input of ``simulate``.

    Args:
        cache_dir: The folder under which the files lie, as for :func:`phantom_datalist`.
        shape: The size (H, W) of a slice.
        num_slices: The number of slices of each volume, along its third axis.
        seed: The seed of the anatomy.

    Returns:
        ``{"image", "anatomy", "acquisition"}`` per volume, as ``simulate`` takes them.
    """
    settings = {
        "version": GENERATOR_VERSION,
        "shape": [int(n) for n in shape],
        "num_slices": int(num_slices),
        "seed": int(seed),
    }
    kinds = [("brain", "AXT2"), ("brain", "AXT1"), ("knee", "SAGPD")]
    folder = cached_folder(cache_dir, "phantom-images", settings, lambda made: _write_images(made, settings, kinds))
    return [
        {"image": str(folder / f"{anatomy}-{index}.nii.gz"), "anatomy": anatomy, "acquisition": acquisition}
        for index, (anatomy, acquisition) in enumerate(kinds)
    ]


def checked_numbers(name: str, numbers: Mapping[str, int], kinds: Iterable[str]) -> dict[str, int]:
    """How many volumes of each kind are to be made; a kind that is left out counts 0.

    Raises:
        ValueError: An unknown kind or a number below 0, under the setting's name.
    """
    kinds = list(kinds)
    if unknown := sorted(set(numbers) - set(kinds)):
        raise ValueError(f"{name}: found {unknown}, expected only {kinds}")
    if any(count < 0 for count in numbers.values()):
        raise ValueError(f"{name}: found {dict(numbers)}, expected numbers from 0")
    return {kind: int(numbers.get(kind, 0)) for kind in kinds}


def _check(settings: Mapping) -> None:
    if settings["slices_per_volume"] < 1:
        raise ValueError(f"slices_per_volume: found {settings['slices_per_volume']}, expected at least 1")
    if not sum(sum(counts.values()) for counts in settings["volumes"].values()):
        raise ValueError("num_training, num_validation, num_test: found no volume at all, expected at least one")
    if len(settings["snr"]) != 2 or settings["snr"][0] > settings["snr"][1]:
        raise ValueError(f"snr: found {settings['snr']}, expected [lowest, highest]")
    for snr in settings["snr"]:
        check_scan(settings["matrix"], settings["matrix"], settings["num_coils"], snr)


def _write_scans(folder: Path, settings: Mapping) -> None:
    (height, width), slices = settings["matrix"], settings["slices_per_volume"]
    total = sum(sum(counts.values()) for counts in settings["volumes"].values())
    check_disk_space(folder, total * slices * height * width * (8 * settings["num_coils"] + 4))
    scans = list(_scans(settings))
    datalist: dict[str, list[dict[str, str]]] = {section: [] for section in settings["volumes"]}
    for section in datalist:
        (folder / section).mkdir()
    progress = tqdm(scans, desc="making phantom scans", unit="volume", total=total, dynamic_ncols=True)
    # threads: NumPy works outside the interpreter's lock; each scan has random numbers of its own
    with ThreadPoolExecutor(JOBS) as pool, progress:
        try:
            written = [
                pool.submit(_write_scan, folder / scan.kspace, scan.anatomy, scan.patient, settings, scan.rng)
                for scan in scans
            ]
            for scan, acquisition in zip(progress, written, strict=True):
                entry = {"kspace": scan.kspace, "patient_id": scan.patient, "anatomy": scan.anatomy}
                datalist[scan.section].append({**entry, "acquisition": acquisition.result()})
        finally:  # an error or Ctrl-C waits for the scans under way alone, which write into the folder
            pool.shutdown(cancel_futures=True)
    (folder / "datalist.json").write_text(json.dumps(datalist, indent=2) + "\n")


class _Planned(NamedTuple):
    """One scan that is to be made, with its random numbers."""

    section: str
    anatomy: str
    patient: str
    rng: np.random.Generator

    @property
    def kspace(self) -> str:
        return f"{self.section}/{self.patient}.h5"


def _scans(settings: Mapping) -> Iterator[_Planned]:
    patients = dict.fromkeys(ACQUISITIONS, 0)
    for number, (section, counts) in enumerate(settings["volumes"].items()):
        for kind, (anatomy, count) in enumerate(counts.items()):
            for index in range(count):
                patients[anatomy] += 1
                rng = np.random.default_rng([settings["seed"], kind, number, index])
                yield _Planned(section, anatomy, f"{anatomy}-{patients[anatomy]:04d}", rng)


def _write_scan(path: Path, anatomy: str, patient: str, settings: Mapping, rng: np.random.Generator) -> str:
    shares = ACQUISITIONS[anatomy]
    acquisition = str(rng.choice(list(shares), p=list(shares.values())))
    snr = float(np.exp(rng.uniform(*np.log(settings["snr"]))))
    fine = [FINENESS * n for n in settings["matrix"]]
    images = _draw(anatomy, fine, slice_positions(anatomy, settings["slices_per_volume"], rng), rng, acquisition)
    scan, header = planned_scan(images, anatomy, settings, snr, COIL_DISTANCE[anatomy], rng, "phantom")
    attributes = {
        "source": "phantom",
        "patient_id": patient,
        "anatomy": anatomy,
        "acquisition": acquisition,
        "snr": snr,
        "seed": settings["seed"],
    }
    write_volume(path, scan.acquire_all(images, rng), num_slices=len(images), attributes=attributes, header=header)
    return acquisition


def planned_scan(
    images: np.ndarray,
    anatomy: str,
    settings: Mapping,
    snr: float,
    coil_distance: tuple[float, float],
    rng: np.random.Generator,
    system: str,
) -> tuple[Scan, str]:
    """The scan of magnitude slices (S, H', W') on the settings' ``matrix`` with ``num_coils``, and its header."""
    (height, width), num_coils = settings["matrix"], settings["num_coils"]
    scan = Scan(
        images[len(images) // 2],
        matrix=(height, width),
        num_coils=num_coils,
        snr=snr,
        rng=rng,
        peak=float(rng.uniform(2e-4, 4e-4)),
        coil_distance=float(rng.uniform(*coil_distance)),
    )
    header = make_header(
        matrix=(height, width),
        recon=(height, width),
        spacing=(SPACING[anatomy] * 96 / height, SPACING[anatomy] * 96 / width),
        slice_thickness=SLICE_THICKNESS,
        num_coils=num_coils,
        systemModel=system,
    )
    return scan, header


def slice_positions(anatomy: str, num_slices: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of a short stack of neighbouring slices in the object (see the drawing functions)."""
    lowest, highest, end, step = {"brain": (-0.1, 0.3, 0.8, (0.03, 0.07)), "knee": (-0.6, 0.1, 0.8, (0.06, 0.12))}[
        anatomy
    ]
    start = rng.uniform(lowest, highest)
    return start + min(rng.uniform(*step), (end - start) / num_slices) * np.arange(num_slices)


def _draw(
    anatomy: str, shape: Sequence[int], positions: np.ndarray, rng: np.random.Generator, acquisition: str
) -> np.ndarray:
    draw = {"brain": brain_slices, "knee": knee_slices}[anatomy]
    return draw(shape, positions, rng, acquisition)


def _write_images(folder: Path, settings: Mapping, kinds: Sequence[tuple[str, str]]) -> None:
    extent = {"brain": (-0.1, 0.75), "knee": (-0.7, 0.7)}
    for index, (anatomy, acquisition) in enumerate(tqdm(kinds, desc="making phantom images", unit="volume")):
        rng = np.random.default_rng([settings["seed"], 100 + index])
        positions = np.linspace(*extent[anatomy], settings["num_slices"])
        stack = _draw(anatomy, settings["shape"], positions, rng, acquisition)
        volume = np.round(1000 * stack).astype(np.int16).transpose(2, 1, 0)[::-1, ::-1]
        affine = np.diag([1.2, 1.2, SLICE_THICKNESS, 1.0])
        if anatomy == "knee":  # sagittal: columns run along A, rows along S, slices along R
            affine = affine[[2, 0, 1, 3]]
        nib.save(nib.Nifti1Image(volume, affine), folder / f"{anatomy}-{index}.nii.gz")
