"""How time and memory grow with slices, coils, width and cascades: a table and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import matplotlib.pyplot as plt

from tests.benchmarks.speed.network import DEMO, write_case
from tests.benchmarks.speed.options import Options
from tests.benchmarks.speed.table import Table, growth

SIZE, COILS = 96, 6
AXES = {  # values, and why the growth is as it is
    "slices": ((1, 2, 4, 8), "one slice at a time: time linear, memory flat"),
    "batch": ((1, 2, 4, 8), "every activation is kept for each slice: linear"),
    "coils": (
        (1, 4, 8, 16),
        "the cascades' U-Nets see one combined image: an offset, then linear by the sensitivity U-Net",
    ),
    "width": (
        (4, 8, 16, 32),
        "convolutions cost the square of the channels, all else their number; an offset of the coils",
    ),
    "cascades": ((1, 3, 6, 12), "linear, on top of the sensitivity U-Net"),
}
Point = tuple[float, float]  # seconds of a step, MB above the idle process


def growth_tables(options: Options) -> list[Table]:
    """Training step and its memory along each axis, from the demo size; also drawn to ``growth.png`` and ``.svg``."""
    curves = {axis: [_point(axis, value, options) for value in values] for axis, (values, _) in AXES.items()}
    draw(curves, options)
    rows = []
    for axis, (values, reason) in AXES.items():
        seconds, memory = zip(*curves[axis], strict=True)
        listed = [" / ".join(f"{x:.0f}" for x in column) for column in (values, [1e3 * s for s in seconds], memory)]
        rows.append([axis, *listed, f"{growth(values, seconds):.2f}", f"{_memory_growth(values, memory):.2f}", reason])
    columns = ["grown", "values", "step [ms]", "memory [MB]", "exponent, time", "exponent, memory", "reason"]
    note = (
        f"Demo network, {COILS} coils, {SIZE} x {SIZE}, batch of one unless grown. Exponent: over the last two values."
    )
    return [Table("Growth of a training step", columns, rows, [note])]


def _memory_growth(values: Sequence[float], memory: Sequence[float]) -> float:
    return growth(values, [max(value, 1.0) for value in memory])


def _point(axis: str, value: int, options: Options) -> Point:
    arguments = dict(DEMO)
    if axis == "width":
        arguments |= {"chans": value, "sens_chans": value // 2}
    if axis == "cascades":
        arguments["num_cascades"] = value
    shape = (value if axis == "coils" else COILS, SIZE, SIZE)
    case = write_case(options.folder / "growth.pt", arguments, shape, batch=value if axis == "batch" else 1)
    passes = value if axis == "slices" else 1
    with options.worker() as worker:
        worker.ask("load_network", kind="ours", case=case, device=options.device)
        idle = worker.ask("peak_memory")
        worker.ask("step")
        seconds = median(sum(worker.ask("step") for _ in range(passes)) for _ in range(options.repeats))
        return seconds, worker.ask("peak_memory") - idle


def draw(curves: dict[str, list[Point]], options: Options) -> None:
    """Two rows of panels, time above and memory below, both from zero; the dashed line is linear growth."""
    figure, panels = plt.subplots(2, len(curves), figsize=(2.4 * len(curves), 4.4), layout="constrained")
    for column, (axis, points) in enumerate(curves.items()):
        values = AXES[axis][0]
        series = [[1e3 * seconds for seconds, _ in points], [memory for _, memory in points]]
        for panel, y, label in zip(panels[:, column], series, ("step [ms]", "memory above idle [MB]"), strict=True):
            panel.plot(values, y, "o-", color="tab:blue")
            panel.plot([0, values[-1]], [0, y[-1]], "--", color="0.7", zorder=0)
            panel.set_xlim(0)
            panel.set_ylim(0)
            panel.set_xticks(values)
            panel.set_xlabel(axis)
            if column == 0:
                panel.set_ylabel(label)
    for suffix in ("png", "svg"):
        figure.savefig(options.folder / f"growth.{suffix}", dpi=150)
    plt.close(figure)
