"""From the last import to the first step of ``unlearn`` on a thousand scans, and the check of values before it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np

from scripts.data import inspect_volume
from scripts.data.checks import check_once
from scripts.data.header import make_header
from scripts.run.files import CACHE_VARIABLE
from tests.benchmarks.speed.data import packed, write_volumes
from tests.benchmarks.speed.options import Options
from tests.benchmarks.speed.session import REPOSITORY
from tests.benchmarks.speed.table import Table

SECTIONS = {"training": {"brain": 880, "knee": 40}, "validation": {"brain": 20}, "test": {"brain": 40, "knee": 20}}
SHAPE, IMAGE = (4, 15, 640, 368), (4, 320, 320)
SAMPLED_ROWS = 2  # of k-space that hold values; all else is a hole in the file
READERS = 2


def start(options: Options) -> list[Table]:
    """Seconds until the first step, by the wall and of the processor, and seconds of checking values."""
    datalist = write_sparse(options.folder.absolute() / "volumes_sparse", SECTIONS)
    return [_first_step(datalist, options), _checking(options)]


def write_sparse(folder: Path, sections: dict[str, dict[str, int]]) -> Path:
    """Volumes of fastMRI's size that occupy little of the disk, written once; returns their datalist."""
    folder.mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[dict]] = {}
    for section, counts in sections.items():
        for anatomy, count in counts.items():
            for number in range(count):
                name = f"{section}_{anatomy}_{number:04}.h5"
                if not (folder / name).exists():
                    _write_sparse(folder / name, patient=f"{section}-{anatomy}-{number}")
                lists.setdefault(section, []).append({"kspace": name, "anatomy": anatomy})
    (folder / "datalist.json").write_text(json.dumps(lists))
    return folder / "datalist.json"


def _write_sparse(path: Path, patient: str) -> None:
    rng = np.random.default_rng(zlib.crc32(patient.encode()))
    header = make_header(matrix=SHAPE[2:], recon=IMAGE[1:], spacing=(1, 1), slice_thickness=5.0, num_coils=SHAPE[1])
    with h5py.File(path, "w") as file:
        for name, shape, dtype in (("kspace", SHAPE, "c8"), ("reconstruction_rss", IMAGE, "f4")):
            holes = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            holes.set_layout(h5py.h5d.CONTIGUOUS)
            holes.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            holes.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple(shape)
            h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, holes)
        rows = slice(SHAPE[2] // 2, SHAPE[2] // 2 + SAMPLED_ROWS)
        shape = (*SHAPE[:2], SAMPLED_ROWS, SHAPE[3], 2)
        file["kspace"][:, :, rows] = rng.standard_normal(shape, np.float32).view(np.complex64)[..., 0]
        file["reconstruction_rss"][:, 150:170] = rng.random((IMAGE[0], 20, IMAGE[2]), np.float32)
        file["ismrmrd_header"] = header
        peak = float(file["reconstruction_rss"][...].max())
        file.attrs.update({"acquisition": "AXT2", "patient_id": patient, "max": peak})


def _first_step(datalist: Path, options: Options) -> Table:
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.speed.first_step", str(datalist)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    found = subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    moments = json.loads(found.stdout.splitlines()[-1])
    files = list(datalist.parent.glob("*.h5"))
    nominal, held = sum(f.stat().st_size for f in files), sum(512 * f.stat().st_blocks for f in files)
    note = (
        f"`unlearn` with `check_values: false`, the demo network, {len(files)} volumes of {SHAPE}: "
        f"{nominal / 1e9:.0f} GB, of which {held / 1e9:.1f} GB are on the disk. From the last import on."
    )
    rows = [[name, *(f"{seconds:.1f}" for seconds in moment)] for name, moment in moments.items()]
    return Table("Start of unlearning on a thousand volumes", ["until", "wall [s]", "processor [s]"], rows, [note])


def _checking(options: Options) -> Table:
    """Values of two volumes, packed by gzip: by one process, two threads, two processes; and once more."""
    folder = packed(write_volumes(options.folder, "published"))
    paths = sorted(folder.glob("*.h5"))
    size = sum(path.stat().st_size for path in paths)
    context = get_context("fork")
    ways: dict[str, Callable[[], Executor]] = {
        "one process": lambda: ThreadPoolExecutor(1),
        f"{READERS} threads": lambda: ThreadPoolExecutor(READERS),
        f"{READERS} processes": lambda: ProcessPoolExecutor(READERS, mp_context=context),
    }
    rows = []
    for turn, (name, executor) in enumerate(ways.items()):
        os.environ[CACHE_VARIABLE] = str(options.folder.absolute() / f"checked_{turn}_{time.time_ns()}")
        with executor() as pool:
            first = _seconds(pool, paths)
            again = _seconds(pool, paths)
        rows.append([name, f"{first:.2f}", f"{size / 1e6 / first:.0f}", f"{again:.3f}"])
    columns = ["readers", "first run [s]", "[MB/s]", "second run [s]"]
    note = f"{len(paths)} volumes, {size / 1e6:.0f} MB, k-space packed by gzip, in the system's cache; with the hash."
    return Table("Check of values", columns, rows, [note])


def _seconds(pool: Executor, paths: Iterable[Path]) -> float:
    start = time.perf_counter()
    list(pool.map(_check, map(str, paths)))
    return time.perf_counter() - start


def _check(path: str) -> None:
    check_once(inspect_volume(path))
