"""The built-in data for requests other than an organ: one patient of many, one scanner, corrupted scans."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.data.volumes import write_volume
from scripts.phantoms.acquisition import Scan, check_scan, rss_target
from scripts.phantoms.anatomy_brain import brain_slices
from scripts.phantoms.cache import cached_folder
from scripts.phantoms.corruption import acquire_moving, acquire_with_spikes, moved, random_pose
from scripts.phantoms.phantom import FINENESS, checked_numbers, planned_scan, slice_positions
from scripts.run.files import check_disk_space

MIXED_VERSION = 1
"""Raise it whenever the same settings would give other files."""


@dataclass(frozen=True)
class Scanner:
    """How a scanner measures.

    Attributes:
        snr: The range of a volume's SNR (see :class:`scripts.phantoms.acquisition.Scan`), log-uniform.
        coil_distance: The range of the coils' mean distance (see :func:`scripts.phantoms.acquisition.coil_maps`).
        acquisitions: The share of each contrast.
    """

    snr: tuple[float, float]
    coil_distance: tuple[float, float]
    acquisitions: Mapping[str, float]


SCANNERS = {
    "A": Scanner((20.0, 60.0), (1.3, 1.8), {"AXT2": 0.6, "AXT1": 0.2, "AXFLAIR": 0.2}),
    "B": Scanner((6.0, 12.0), (1.0, 1.1), {"AXT1": 0.5, "AXFLAIR": 0.5}),
}


@dataclass(frozen=True)
class Kind:
    """What the scans of one kind have in common; with ``one_patient`` they are all of the same patient."""

    scanner: str = "A"
    quality: str = "good"
    one_patient: bool = False


KINDS = {
    "good": Kind(),
    "repeated": Kind(one_patient=True),
    "scanner_b": Kind(scanner="B"),
    "motion": Kind(quality="motion"),
    "spikes": Kind(quality="spikes"),
    "wrong_target": Kind(quality="wrong_target"),
}
TRAINING = {"good": 36, "repeated": 2, "scanner_b": 6, "motion": 3, "spikes": 3, "wrong_target": 3}
VALIDATION = {"good": 2}
TEST = {"good": 12, "repeated": 3, "scanner_b": 8, "motion": 4, "spikes": 4, "wrong_target": 4}
TESTS = {
    "one_patient": ("good",),
    "scanner_b": ("good", "scanner_b"),
    "corrupted": ("good", "motion", "spikes", "wrong_target"),
}
"""The kinds in the test list of each request's datalist."""
LATER = "later"
"""The datalist of further scans of the one patient."""
POSE = {"rotation": 0.05, "shift": 0.01}
"""Spread of a repeated scan's pose: radians, fraction of the field of view."""


def mixed_phantom_datalist(
    request: str = "scanner_b",
    cache_dir: str | Path | None = None,
    *,
    num_training: Mapping[str, int] | None = None,
    num_test: Mapping[str, int] | None = None,
    slices_per_volume: int = 3,
    matrix: Sequence[int] = (64, 64),
    num_coils: int = 4,
    seed: int = 0,
) -> str:
    """Make the mixed phantom scans, or find those made before, and return the path of one request's datalist.

    All are brains. The kinds are:

    - ``good``: scanner A, one scan a patient;
    - ``repeated``: the same, but all are scans of one patient, ``repeated-0001``, at other positions and in other
      poses, in T2 contrast;
    - ``scanner_b``: a second scanner, noisier, with coils nearer to the head and without T2 scans (see
      ``SCANNERS``);
    - ``motion``, ``spikes``: corrupted acquisitions with the corrupted reference image that follows from them, as a
      hospital's archive holds them;
    - ``wrong_target``: a good acquisition whose reference image is another object's.

    The datalists of all requests have the same training and validation lists, so that one original serves them all,
    and differ in the test list: good scans (BTA) and scans of what is to be forgotten (KTA).

    - ``one_patient``: no test scan is selected, since a request that selects a patient who is also tested is refused.
      There is no KTA; UA is measured on the patient's training scans, and a further datalist, ``later``, whose test
      list holds later scans of this patient, can be evaluated without a request.
    - ``scanner_b``: KTA is other patients' scans of scanner B.
    - ``corrupted``: KTA is other patients' corrupted scans with their corrupted reference images. A network that
      learnt to reproduce artefacts scores high there, so forgetting lowers KTA; BTA, the good scans, should rise.

    Args:
        request: The request: ``one_patient``, ``scanner_b``, ``corrupted`` or ``later``.
        cache_dir: The folder under which the files lie, as for :func:`scripts.phantoms.phantom_datalist`, in
            ``mixed-phantom-<hash>``.
        num_training: The number of training volumes of each kind, by default ``TRAINING``; a kind that is left out
            counts 0.
        num_test: The same of test volumes, by default ``TEST``.
        slices_per_volume: The number of neighbouring slices of one object.
        matrix: The size (H, W) of the k-space; the object is drawn on a grid twice as fine.
        num_coils: The number of receive channels of both scanners.
        seed: The seed of everything that is drawn.

    Returns:
        The path of ``<request>.json``: ``{"kspace", "patient_id", "anatomy", "acquisition", "scanner", "quality"}`` per
        volume. The header's ``systemModel`` is ``phantom A`` or ``phantom B``.

    Raises:
        ValueError: A setting is impossible; the message names it.
        OSError: The disk is too small.
    """
    if request not in (*TESTS, LATER):
        raise ValueError(f"request: found {request!r}, expected one of {', '.join((*TESTS, LATER))}")
    settings: dict[str, Any] = {
        "version": MIXED_VERSION,
        "volumes": {
            "training": checked_numbers("num_training", TRAINING if num_training is None else num_training, KINDS),
            "validation": VALIDATION,
            "test": checked_numbers("num_test", TEST if num_test is None else num_test, KINDS),
        },
        "scanners": {name: asdict(scanner) for name, scanner in SCANNERS.items()},
        "slices_per_volume": int(slices_per_volume),
        "matrix": [int(n) for n in matrix],
        "num_coils": int(num_coils),
        "seed": int(seed),
    }
    if settings["slices_per_volume"] < 1:
        raise ValueError(f"slices_per_volume: found {slices_per_volume}, expected at least 1")
    check_scan(settings["matrix"], settings["matrix"], settings["num_coils"], snr=1.0)
    folder = cached_folder(cache_dir, "mixed-phantom", settings, lambda folder: _write(folder, settings))
    return str(folder / f"{request}.json")


def _write(folder: Path, settings: Mapping) -> None:
    height, width = settings["matrix"]
    total = sum(sum(counts.values()) for counts in settings["volumes"].values())
    size = settings["slices_per_volume"] * height * width * (8 * settings["num_coils"] + 4)
    check_disk_space(folder, total * size)
    entries: dict[str, dict[str, list]] = {}
    patients = dict.fromkeys(KINDS, 0)
    with tqdm(total=total, desc="making mixed phantom scans", unit="volume", dynamic_ncols=True) as progress:
        for number, (section, counts) in enumerate(settings["volumes"].items()):
            (folder / section).mkdir()
            entries[section] = {kind: [] for kind in counts}
            for kind, count in counts.items():
                for index in range(count):
                    patients[kind] += 1
                    rng = np.random.default_rng([settings["seed"], list(KINDS).index(kind), number, index])
                    name = f"{section}/{kind}-{patients[kind]:04d}.h5"
                    entries[section][kind].append(_write_scan(folder, name, kind, settings, rng))
                    progress.update()
    for request, kinds in TESTS.items():
        sections = {"training": KINDS, "validation": KINDS, "test": kinds}
        _write_datalist(folder / f"{request}.json", entries, sections)
    _write_datalist(folder / f"{LATER}.json", entries, {"test": ("repeated",)})


def _write_datalist(path: Path, entries: Mapping, sections: Mapping[str, Iterable[str]]) -> None:
    """The entries of some kinds, by section."""
    datalist = {
        section: [entry for kind in kinds for entry in entries[section].get(kind, [])]
        for section, kinds in sections.items()
    }
    path.write_text(json.dumps(datalist, indent=2) + "\n")


def _write_scan(folder: Path, name: str, kind: str, settings: Mapping, rng: np.random.Generator) -> dict[str, str]:
    what = KINDS[kind]
    scanner = SCANNERS[what.scanner]
    shares = {"AXT2": 1.0} if what.one_patient else scanner.acquisitions
    entry = {
        "kspace": name,
        "patient_id": f"{kind}-0001" if what.one_patient else Path(name).stem,
        "anatomy": "brain",
        "acquisition": str(rng.choice(list(shares), p=list(shares.values()))),
        "scanner": what.scanner,
        "quality": what.quality,
    }
    snr = float(np.exp(rng.uniform(*np.log(scanner.snr))))
    images = _images(kind, entry["acquisition"], settings, rng)
    scan, header = planned_scan(images, "brain", settings, snr, scanner.coil_distance, rng, f"phantom {what.scanner}")
    labels = _images(kind, entry["acquisition"], settings, rng) if what.quality == "wrong_target" else None
    attributes = {"source": "phantom", "snr": snr, "seed": settings["seed"], **entry}
    del attributes["kspace"]
    write_volume(
        folder / name,
        _acquired(scan, images, labels, what.quality, rng),
        num_slices=len(images),
        attributes=attributes,
        header=header,
    )
    return entry


def _images(kind: str, acquisition: str, settings: Mapping, rng: np.random.Generator) -> np.ndarray:
    """Magnitude slices (S, H', W') of a new object, or of the one patient in a new pose."""
    fine = [FINENESS * n for n in settings["matrix"]]
    positions = slice_positions("brain", settings["slices_per_volume"], rng)
    if not KINDS[kind].one_patient:
        return brain_slices(fine, positions, rng, acquisition)
    pose = random_pose(fine, rng, **POSE)
    patient = np.random.default_rng([settings["seed"], list(KINDS).index(kind)])
    return np.stack([moved(image, *pose) for image in brain_slices(fine, positions, patient, acquisition)])


def _acquired(
    scan: Scan, images: np.ndarray, labels: np.ndarray | None, quality: str, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """k-space (C, H, W) and reference image (H, W) of each slice; with ``labels`` the reference is theirs."""
    acquire = {"motion": acquire_moving, "spikes": acquire_with_spikes}.get(quality, Scan.acquire)
    for index, image in enumerate(images):
        kspace = acquire(scan, image, rng)
        yield kspace, rss_target(kspace if labels is None else scan.acquire(labels[index], rng))
