"""VarNet beside fastMRI's: forward and training step, time and memory, same weights, same input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from scripts.data import EquispacedFractionMask
from scripts.networks import VarNet
from tests.benchmarks.speed.options import Options
from tests.benchmarks.speed.session import Worker, in_turns
from tests.benchmarks.speed.table import MISSING, Table, milliseconds, ratio

DEMO = {"num_cascades": 3, "chans": 8, "pools": 3, "sens_chans": 4, "sens_pools": 3}
PUBLISHED = {"num_cascades": 12, "chans": 18, "pools": 4, "sens_chans": 8, "sens_pools": 4}
PASSES = {"demo": 10, "published": 1}  # of one measurement: short ones vary
IMAGE_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-8  # single, double precision
CASES = {  # arguments, (coils, height, width)
    "demo": (DEMO, (6, 96, 96)),
    "published": (PUBLISHED, (15, 320, 320)),
}


def write_case(path: Path, arguments: dict, shape: tuple[int, int, int], batch: int = 1) -> str:
    """Random weights and k-space that falls off as an image's does, the same for everyone; the path as text."""
    torch.manual_seed(0)
    height, width = shape[1:]
    rows, columns = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    falloff = 1 / (1 + rows[:, None].square() + columns.square())
    mask = torch.from_numpy(EquispacedFractionMask(4, 0.08)(width, seed=0)).reshape(1, 1, 1, width, 1)
    kspace = torch.randn(batch, *shape, 2) * falloff[..., None] * mask
    content = {"arguments": arguments, "state": VarNet(**arguments).state_dict(), "masked_kspace": kspace}
    path.parent.mkdir(parents=True, exist_ok=True)
    target = torch.rand(batch, *shape[1:])
    torch.save({**content, "mask": mask.expand(batch, -1, -1, -1, -1).clone(), "target": target}, path)
    return str(path.absolute())


def image_difference(found: dict, expected: dict) -> float:
    """Norm of the difference of two images relative to the norm; AssertionError above the tolerance.

    Example:
        >>> image_difference({"image": torch.ones(2)}, {"image": torch.ones(2)})
        0.0
    """
    error = float((found["image"] - expected["image"]).norm() / expected["image"].norm())
    assert error < IMAGE_TOLERANCE, f"images differ by {error:.1e}, expected less than {IMAGE_TOLERANCE:.0e}"
    return error


def gradient_difference(found: dict, expected: dict) -> float:
    """Norm of the difference of all gradients relative to their norm; AssertionError above the tolerance."""
    difference = sum(float((found[name] - value).double().square().sum()) for name, value in expected.items())
    error = (difference / sum(float(value.double().square().sum()) for value in expected.values())) ** 0.5
    assert error < GRADIENT_TOLERANCE, f"gradients differ by {error:.1e}, expected less than {GRADIENT_TOLERANCE:.0e}"
    return error


def network(options: Options) -> list[Table]:
    """Times and memory at each size; fastMRI's columns are empty without its interpreter."""
    times, memory, notes = [], [], []
    for name in options.sizes:
        arguments, shape = CASES[name]
        notes.append("{}: {} coils, {} x {}, VarNet({}).".format(name, *shape, ", ".join(_pairs(arguments))))
        path = write_case(options.folder / f"{name}.pt", arguments, shape)
        for row, peaks, difference in _measure(path, PASSES[name], options):
            times.append([name, *row])
            memory.append([name, row[0], *peaks])
            notes.append(f"{name}, {row[0]}: {difference}.")
    columns = ["size", "pass", "fastMRI [ms]", "ours [ms]", "ratio", "ours, compiled [ms]", "ratio "]
    return [
        Table("VarNet: time", columns, times, [*notes, "One slice a batch. Ratio: median [range] of neighbours."]),
        Table("VarNet: peak memory of the process", ["size", "pass", "fastMRI [MB]", "ours [MB]", "ratio"], memory),
    ]


def _pairs(arguments: dict) -> list[str]:
    return [f"{key} {value}" for key, value in arguments.items()]


def _measure(case: str, passes: int, options: Options) -> Iterator[tuple[list[str], list[str], str]]:
    """Forward and training step: row of times, row of memory, differences of the results."""
    kinds = {"fastMRI": {"kind": "fastmri"}} if options.peer else {}
    kinds["ours"] = {"kind": "ours"}
    if options.compiled:
        kinds["compiled"] = {"kind": "ours", "compiled": True}
    with ExitStack() as stack:
        workers = {kind: stack.enter_context(options.worker(peer=kind == "fastMRI")) for kind in kinds}
        for kind, arguments in kinds.items():
            workers[kind].ask("load_network", case=case, **arguments)
        checks = [("forward", "write_image", image_difference), ("step", "write_gradients", gradient_difference)]
        for job, write, difference in checks:
            found = _compare(workers, write, difference, options.folder.absolute())
            for worker in workers.values():
                worker.ask("start_peak")
            measures = {kind: partial(worker.ask, job) for kind, worker in workers.items()}
            times = in_turns(measures, options.repeats, passes)
            peaks = {kind: worker.ask("peak_memory") for kind, worker in workers.items()}
            yield [job, *_times(times)], _memory(peaks), found


def _compare(workers: dict[str, Worker], write: str, difference: Callable, folder: Path) -> str:
    """Have every worker write what it makes, and compare all with the first one."""
    results = {}
    for kind, worker in workers.items():
        if kind == "compiled" and write == "write_gradients":
            continue  # it would be compiled again for double precision; see tests/networks/test_compiled.py
        worker.ask(write, path=str(folder / f"{kind}.pt"))
        results[kind] = torch.load(folder / f"{kind}.pt")
        (folder / f"{kind}.pt").unlink()
    first, *others = results
    return "; ".join(
        f"{kind} differs from {first} by {difference(results[kind], results[first]):.0e}" for kind in others
    )


def _times(times: dict[str, list[float]]) -> list[str]:
    cells = [milliseconds(times[kind]) if kind in times else MISSING for kind in ("fastMRI", "ours", "compiled")]
    ratios = [
        ratio(times["fastMRI"], times[kind]) if {"fastMRI", kind} <= times.keys() else MISSING
        for kind in ("ours", "compiled")
    ]
    return [*cells[:2], ratios[0], cells[2], ratios[1]]


def _memory(peaks: dict[str, float]) -> list[str]:
    theirs, ours = peaks.get("fastMRI"), peaks["ours"]
    return [f"{theirs:.0f}" if theirs else MISSING, f"{ours:.0f}", f"{ours / theirs:.2f}" if theirs else MISSING]
