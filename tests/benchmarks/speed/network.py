"""VarNet beside fastMRI's: forward and training step, time and memory, same weights, same input."""

from __future__ import annotations

from collections.abc import Iterator
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
HALF_TOLERANCE = 0.03  # of an image in half precision, with untrained weights
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


def image_difference(found: dict, expected: dict, tolerance: float = IMAGE_TOLERANCE) -> float:
    """Norm of the difference of two images relative to the norm; AssertionError above the tolerance.

    Example:
        >>> image_difference({"image": torch.ones(2)}, {"image": torch.ones(2)})
        0.0
    """
    error = float((found["image"] - expected["image"]).norm() / expected["image"].norm())
    assert error < tolerance, f"images differ by {error:.1e}, expected less than {tolerance:.0e}"
    return error


def gradient_difference(found: dict, expected: dict) -> float:
    """Norm of the difference of all gradients relative to their norm; AssertionError above the tolerance."""
    difference = sum(float((found[name] - value).double().square().sum()) for name, value in expected.items())
    error = (difference / sum(float(value.double().square().sum()) for value in expected.values())) ** 0.5
    assert error < GRADIENT_TOLERANCE, f"gradients differ by {error:.1e}, expected less than {GRADIENT_TOLERANCE:.0e}"
    return error


def network(options: Options) -> list[Table]:
    """Times and memory at each size, beside fastMRI's where its interpreter is known."""
    rows, notes = [], []
    for name in options.sizes:
        arguments, shape = CASES[name]
        notes.append("{}: {} coils, {} x {}, VarNet({}).".format(name, *shape, ", ".join(_pairs(arguments))))
        path = write_case(options.folder / f"{name}.pt", arguments, shape)
        for job, differences, measured in _measure(path, PASSES[name], options):
            rows += [[name, job, *row] for row in measured]
            notes.append(f"{name}, {job}: {differences}.")
    columns = ["size", "pass", "network", "time [ms]", "faster than fastMRI", "memory [MB]", "of fastMRI's"]
    return [
        Table("VarNet", columns, rows, [*notes, "One slice a batch. Ratio of times: median [range] of neighbours."])
    ]


def variants(options: Options) -> dict[str, dict]:
    """Name -> how it is loaded. All but the first are compared with the first."""
    found: dict[str, dict] = {"fastMRI": {"kind": "fastmri"}} if options.peer else {}
    found["fp32"] = {"kind": "ours"}
    halves = ["bf16", "fp16"] if options.device == "cuda" else ["bf16"]
    found |= {half: {"kind": "ours", "precision": half} for half in halves}
    for precision in ("fp32", "bf16"):
        found[f"{precision}, checkpointed"] = {
            "kind": "ours",
            "precision": precision,
            "checkpoint_activations": True,
        }
    if options.compiled:
        found["fp32, compiled"] = {"kind": "ours", "compiled": True}
    return found


def _pairs(arguments: dict) -> list[str]:
    return [f"{key} {value}" for key, value in arguments.items()]


def _measure(case: str, passes: int, options: Options) -> Iterator[tuple[str, str, list[list[str]]]]:
    """Forward and training step: how far the results differ, and a row for each variant."""
    kinds = variants(options)
    with ExitStack() as stack:
        workers = {kind: stack.enter_context(options.worker(peer=kind == "fastMRI")) for kind in kinds}
        for kind, arguments in kinds.items():
            workers[kind].ask("load_network", case=case, device=options.device, **arguments)
        for job in ("forward", "step"):
            differences = _compare(workers, job, options.folder.absolute())
            here = {kind: worker for kind, worker in workers.items() if job == "step" or "checkpointed" not in kind}
            for worker in here.values():
                worker.ask("start_peak")
            times = in_turns({k: partial(w.ask, job) for k, w in here.items()}, options.repeats, passes)
            peaks = {kind: worker.ask("peak_memory") for kind, worker in here.items()}
            yield job, differences, [_row(kind, times, peaks) for kind in here]


def _compare(workers: dict[str, Worker], job: str, folder: Path) -> str:
    """Have the workers write what they make, and compare all with the first one."""
    results = {}
    for kind, worker in workers.items():
        if job == "step" and ("bf16" in kind or "fp16" in kind or "compiled" in kind):
            continue  # see tests/networks/test_precision.py and test_compiled.py
        worker.ask("write_image" if job == "forward" else "write_gradients", path=str(folder / "result.pt"))
        results[kind] = torch.load(folder / "result.pt")
        (folder / "result.pt").unlink()
    (first, expected), *others = results.items()
    errors = {kind: _difference(kind, job, found, expected) for kind, found in others}
    return "; ".join(f"{kind} differs from {first} by {error:.0e}" for kind, error in errors.items())


def _difference(kind: str, job: str, found: dict, expected: dict) -> float:
    if job == "step":
        return gradient_difference(found, expected)
    return image_difference(found, expected, IMAGE_TOLERANCE if "fp32" in kind else HALF_TOLERANCE)


def _row(kind: str, times: dict[str, list[float]], peaks: dict[str, float]) -> list[str]:
    faster, less = MISSING, MISSING
    if kind != "fastMRI" and "fastMRI" in times:
        faster, less = ratio(times["fastMRI"], times[kind]), f"{peaks[kind] / peaks['fastMRI']:.2f}"
    return [kind, milliseconds(times[kind]), faster, f"{peaks[kind]:.0f}", less]
