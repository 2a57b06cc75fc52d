"""Speed and memory beside fastMRI and MONAI, as tables: ``python -m tests.benchmarks.speed``."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import fire
import torch

from scripts.run.files import atomic_write
from tests.benchmarks.speed.data import data
from tests.benchmarks.speed.growth import growth_tables
from tests.benchmarks.speed.inference import inference
from tests.benchmarks.speed.network import network
from tests.benchmarks.speed.options import Options
from tests.benchmarks.speed.peer import find_peer
from tests.benchmarks.speed.start import start
from tests.benchmarks.speed.table import Table
from tests.benchmarks.speed.unlearning import unlearning

PARTS = {
    "network": network,
    "data": data,
    "inference": inference,
    "unlearning": unlearning,
    "growth": growth_tables,
    "start": start,
}


def main(
    parts: str | tuple[str, ...] = tuple(PARTS),
    output_dir: str = "outputs/speed",
    peer_python: str | None = None,
    sizes: str | tuple[str, ...] = ("demo", "published"),
    repeats: int = 5,
    threads: int = 1,
    clock: str = "wall",
    compiled: bool = False,
    device: str = "cpu",
    unlearn_record: str | None = None,
) -> None:
    """Measure, print the tables and write them to ``<output_dir>/<part>.md`` and ``.json``.

    Results are compared before anything is timed; where they differ the run ends.

    Args:
        parts: of network, data, inference, unlearning, growth, start; separated by commas.
        output_dir: for the tables, the plot, generated volumes and fastMRI's environment.
        peer_python: interpreter with fastMRI 0.3.0; None: a virtual environment is made in the output folder.
        sizes: demo (6 coils, 96 x 96) and published (15 coils; 320 x 320, files 640 x 368).
        repeats: of each measurement; ours and theirs take turns. At demo size each is the mean of ten passes.
        threads: of PyTorch in each process.
        clock: wall; or cpu, the time of the process alone, for a machine with other work.
        compiled: also measure the compiled network.
        device: of the network: cpu, or cuda, where fp16 is measured too and memory is PyTorch's on the GPU.
        unlearn_record: record of a default unlearning run; None: run it.
    """
    parts, sizes = (value.split(",") if isinstance(value, str) else list(value) for value in (parts, sizes))
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"parts: expected some of {', '.join(PARTS)}, found {', '.join(unknown)}")
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    peer = find_peer(peer_python, folder / "fastmri_environment") if {"network", "data"} & set(parts) else None
    options = Options(folder, peer, tuple(sizes), repeats, threads, clock, compiled, device, unlearn_record)
    for part in parts:
        write(part, PARTS[part](options), options)


def write(part: str, tables: list[Table], options: Options) -> None:
    """Print tables and write them with the conditions of the measurement."""
    text = "\n\n".join([*(table.markdown() for table in tables), conditions(options)]) + "\n"
    print(text)
    record = {"conditions": conditions(options), "tables": [table.json() for table in tables]}
    for suffix, content in (("md", text), ("json", json.dumps(record, indent=2) + "\n")):
        with atomic_write(options.folder / f"{part}.{suffix}") as temporary:
            Path(temporary).write_text(content, encoding="utf-8")


def conditions(options: Options) -> str:
    """Where and how it was measured."""
    clock = {"wall": "wall time", "cpu": "processor time of the process"}[options.clock]
    load = " / ".join(f"{value:.1f}" for value in os.getloadavg())
    gpu = f" and {torch.cuda.get_device_name()}" if options.device == "cuda" else ""
    return (
        f"Measured in {clock}, {options.threads} thread(s), {options.repeats} repeats in turns, on {os.cpu_count()} "
        f"cores ({platform.machine()}{gpu}), load {load}; torch {torch.__version__}."
    )


if __name__ == "__main__":
    fire.Fire(main)
