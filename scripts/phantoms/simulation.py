"""Semi-synthetic raw data: NIfTI magnitude volumes -> multi-coil k-space in fastMRI's format."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.data.datalist import SECTIONS
from scripts.data.header import make_header
from scripts.data.volumes import write_volume
from scripts.phantoms.acquisition import Scan, check_scan
from scripts.phantoms.magnitude import Magnitude, read_magnitude
from scripts.run.files import atomic_folder, check_disk_space

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Piece:
    """Consecutive slices of one source image that become one HDF5 file."""

    section: str
    name: str
    slices: range


Plan = tuple[tuple[int, int], list[Piece]]  # of one image: the size of its slices, and what it is cut into


@dataclass(frozen=True)
class Simulation:
    """Magnitude volumes as multi-coil k-space with coil maps, smooth phase and noise of a stated SNR.

    Made, it has read and cut all images; :meth:`write` writes what they become.

    A patient stays in one list: images of one ``patient_id``, or one image without it, go together. The patients of
    each anatomy are dealt out to training, validation and test by the shares and the seed.

    Only where an anatomy has fewer images than there are lists, and none names its patient, each is cut along its slice
    axis instead: consecutive runs for the lists, with ``gap`` slices left out between two runs. These are pieces of
    **one** subject: they test texture and mechanics and say nothing about a population. Air at both ends of the slice
    axis is left out.

    The files carry the attributes ``source: "semi-synthetic"``, ``source_image``, ``source_slices`` (first and
    last, from 0), ``snr`` and ``seed``; noise that is in the source stays part of the object.

    Args:
        images: Mappings with ``image`` (path of a NIfTI magnitude volume, 3-D or 4-D) and optionally ``volume``
            (index in the fourth dimension, default 0), ``slice_axis`` (default 2), ``anatomy``, ``acquisition``,
            ``patient_id``, ``split`` (one of training, validation, test).
        output_dir: The folder to be made; it must be absent or empty.
        num_coils: The number of receive channels.
        snr: The signal-to-noise ratio, see :class:`scripts.phantoms.acquisition.Scan`.
        matrix: The size (H, W) of the k-space, at most the slice's size, which is the default.
        splits: The share of each section, by default ``{"training": 0.6, "validation": 0.15, "test": 0.25}``; a
            section of share 0 gets nothing. Of fewer patients than sections the first is for training, the second for
            the test.
        gap: The number of slices left out between two sections.
        slices_per_volume: The largest number of slices in a file.
        seed: The seed of coils, phase and noise.

    Raises:
        FileNotFoundError, ValueError, OSError: Before anything is written: an image is missing, not NIfTI, complex,
            NaN, negative, of the wrong rank or has too few slices or volumes, a setting is impossible, or the disk is
            too small. The message names file, field, what was found and what was expected.
    """

    images: Sequence[Mapping[str, Any]]
    output_dir: str | Path
    num_coils: int = 8
    snr: float = 40.0
    matrix: Sequence[int] | None = None
    splits: Mapping[str, float] | None = None
    gap: int = 2
    slices_per_volume: int = 8
    seed: int = 0
    plans: list[Plan] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        splits = {"training": 0.6, "validation": 0.15, "test": 0.25} if self.splits is None else self.splits
        splits = {section: float(splits[section]) for section in SECTIONS if splits.get(section)}
        if not splits:
            raise ValueError(f"splits: found {self.splits}, expected at least one share above 0")
        output_dir = Path(self.output_dir)
        if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
            raise ValueError(
                f"{output_dir}: output_dir: found something there, expected no such folder or an empty one"
            )
        _refuse_twice(self.images)
        sources = []  # without their values
        for entry in tqdm(self.images, desc="checking images", unit="image", dynamic_ncols=True):
            source = read_magnitude(entry)
            try:
                check_scan(self.matrix or source.shape, source.shape, self.num_coils, self.snr)
            except ValueError as error:
                raise ValueError(f"{source.path}: {error}") from error
            sources.append(replace(source, data=np.empty((0, *source.shape)), used=source.slices_with_signal()))
        sections = _dealt_out(sources, splits, np.random.default_rng(self.seed))
        for number, (source, section) in enumerate(zip(sources, sections, strict=True)):
            try:
                self.plans.append(_cut(source, number, section, splits, self.gap, self.slices_per_volume))
            except ValueError as error:
                raise ValueError(f"{source.path}: {error}") from error
        pixels = 0
        for shape, pieces in self.plans:
            height, width = self.matrix or shape
            pixels += sum(len(piece.slices) for piece in pieces) * height * width
        check_disk_space(output_dir, pixels * (8 * self.num_coils + 4))

    def write(self) -> str:
        """Write all files, or none, and return the path of ``datalist.json`` in ``output_dir``.

        Raises:
            OSError: The disk is full.
        """
        output_dir = Path(self.output_dir)
        pieces = [pieces for _, pieces in self.plans]
        with atomic_folder(output_dir) as temporary:
            datalist = _write(temporary, self.images, pieces, self.matrix, self.num_coils, self.snr, self.seed)
            (temporary / "datalist.json").write_text(json.dumps(datalist, indent=2) + "\n")
        for section, entries in datalist.items():
            logger.info("%s: %d volumes", section, len(entries))
        logger.info("wrote %s", output_dir / "datalist.json")
        return str(output_dir / "datalist.json")


def _refuse_twice(images: Sequence[Mapping[str, Any]]) -> None:
    """One image under two entries would be one subject in two sections, or twice in one."""
    seen: dict[tuple[str, object], int] = {}
    for number, entry in enumerate(images):
        key = os.path.realpath(str(entry.get("image"))), entry.get("volume", 0)
        if key in seen:
            raise ValueError(
                f"images[{number}]: image: found {entry.get('image')} again, which is images[{seen[key]}]; expected "
                "each image once"
            )
        seen[key] = number


def split_slices(num_slices: int, splits: Mapping[str, float], gap: int) -> dict[str, range]:
    """Cut ``num_slices`` into one run per section, in proportion to ``splits``, ``gap`` slices apart.

    Raises ``ValueError`` where a section would be left without a slice.

    >>> split_slices(20, {"training": 0.5, "test": 0.5}, gap=2)
    {'training': range(0, 9), 'test': range(11, 20)}
    """
    available = num_slices - gap * (len(splits) - 1)
    needed = len(splits) + gap * (len(splits) - 1)
    if available < len(splits):
        raise ValueError(f"splits: found {num_slices} slices with signal, expected at least {needed}")
    shares = np.array(list(splits.values()))
    spare = (available - len(splits)) * shares / shares.sum()  # every section has one slice before the rest is shared
    counts = 1 + np.diff(np.round(np.concatenate([[0.0], np.cumsum(spare)]))).astype(int)
    runs, start = {}, 0
    for section, count in zip(splits, counts.tolist(), strict=True):
        runs[section] = range(start, start + count)
        start += count + gap
    return runs


def _dealt_out(sources: Sequence[Magnitude], splits: Mapping[str, float], rng: np.random.Generator) -> list[str | None]:
    """The section of each image, one for all images of a patient; None: it is cut into pieces for all of them."""
    patients = [source.fields.get("patient_id") or os.path.realpath(source.path) for source in sources]
    sections = {patient: source.split for patient, source in zip(patients, sources, strict=True) if source.split}
    kinds: dict[str, dict[str, bool]] = {}  # anatomy -> patient -> whether an image of it may be cut
    for patient, source in zip(patients, sources, strict=True):
        cut = "patient_id" not in source.fields and len(source.used) > 1
        if patient not in sections and not any(patient in others for others in kinds.values()):
            kinds.setdefault(source.fields.get("anatomy", ""), {})[patient] = cut
    for dealt in kinds.values():
        names = [list(dealt)[i] for i in rng.permutation(len(dealt))]
        if len(names) >= len(splits):
            runs = split_slices(len(names), splits, gap=0)
            sections |= {names[i]: section for section, run in runs.items() for i in run}
        elif not all(dealt.values()):
            order = [section for section in ("training", "test", "validation") if section in splits]
            sections |= dict(zip(names, order, strict=False))
    return [source.split or sections.get(patient) for patient, source in zip(patients, sources, strict=True)]


def _cut(
    source: Magnitude, number: int, section: str | None, splits: Mapping[str, float], gap: int, limit: int
) -> Plan:
    used = source.used
    runs = {section: range(len(used))} if section else split_slices(len(used), splits, gap)
    stem = Path(source.path).name.removesuffix(".gz").removesuffix(".nii")
    pieces: list[Piece] = []
    for section_of, run in runs.items():
        for part in np.array_split(np.array(run), -(-len(run) // limit)):
            name = f"{section_of}/{number:02d}-{stem}-{len(pieces):02d}.h5"
            pieces.append(Piece(section_of, name, used[int(part[0]) : int(part[-1]) + 1]))
    return source.shape, pieces


def _write(
    folder: Path,
    images: Sequence[Mapping[str, Any]],
    plans: Sequence[Sequence[Piece]],
    matrix: Sequence[int] | None,
    num_coils: int,
    snr: float,
    seed: int,
) -> dict[str, list[dict]]:
    datalist: dict[str, list[dict]] = {section: [] for section in SECTIONS}
    total = sum(len(piece.slices) for pieces in plans for piece in pieces)
    for section in SECTIONS:
        (folder / section).mkdir()
    with tqdm(total=total, desc="simulating k-space", unit="slice", dynamic_ncols=True) as progress:
        for number, (entry, pieces) in enumerate(zip(images, plans, strict=True)):
            source = read_magnitude(entry)
            height, width = matrix or source.shape
            size = height, width
            used = [index for piece in pieces for index in piece.slices]
            reference = source.slice(used[len(used) // 2])
            rng = np.random.default_rng([seed, number])
            scan = Scan(reference, matrix=size, num_coils=num_coils, snr=snr, rng=rng)
            header = make_header(
                matrix=size,
                recon=size,
                spacing=source.spacing_at(size),
                slice_thickness=source.thickness,
                num_coils=num_coils,
                systemModel="simulation",
            )
            attributes: dict[str, str | float] = {
                "source": "semi-synthetic",
                "source_image": Path(source.path).name,
                "snr": float(snr),
                "seed": int(seed),
                **source.fields,
            }
            for piece in pieces:
                slices = scan.acquire_all(map(source.slice, piece.slices), rng)
                own = {**attributes, "source_slices": f"{piece.slices[0]}-{piece.slices[-1]}"}
                write_volume(folder / piece.name, slices, num_slices=len(piece.slices), attributes=own, header=header)
                datalist[piece.section].append({"kspace": piece.name, **source.fields})
                progress.update(len(piece.slices))
    return datalist
