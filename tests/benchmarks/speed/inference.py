"""Reconstruction of one slice of fastMRI's size with the published network: reading against computing."""

from __future__ import annotations

from functools import partial
from statistics import median

from tests.benchmarks.speed.data import CASES as VOLUMES
from tests.benchmarks.speed.data import forget_cached, write_volumes
from tests.benchmarks.speed.network import PUBLISHED, write_case
from tests.benchmarks.speed.options import Options
from tests.benchmarks.speed.session import in_turns
from tests.benchmarks.speed.table import Table, milliseconds


def inference(options: Options) -> list[Table]:
    """Milliseconds of reading, from disk, and of the network, one slice."""
    folder = write_volumes(options.folder, "published")
    shape = VOLUMES["published"][2]
    case = write_case(options.folder / "inference.pt", PUBLISHED, shape)
    with options.worker() as worker:
        worker.ask("open_data", kind="ours", folder=str(folder))
        worker.ask("load_network", kind="ours", case=case, device=options.device)

        def read() -> float:
            forget_cached(folder)
            return worker.ask("epoch")

        times = in_turns({"read": read, "forward": partial(worker.ask, "forward")}, options.repeats)
        peak = worker.ask("peak_memory")
    read_time, forward_time = (median(times[key]) for key in ("read", "forward"))
    rows = [
        ["HDF5 to batch, cold", milliseconds(times["read"]), f"{read_time / (read_time + forward_time):.1%}"],
        ["network", milliseconds(times["forward"]), f"{forward_time / (read_time + forward_time):.1%}"],
    ]
    note = "{} coils, {} x {}, VarNet() as published; peak memory {:.0f} MB.".format(*shape, peak)
    return [Table("Inference of one slice", ["part", "ms", "share"], rows, [note])]
