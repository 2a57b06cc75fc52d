"""The whole study: what is checked first, and the cells that are then run, side by side where asked, by joblib."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout
from joblib import Parallel, delayed, parallel_config

from scripts.data import check_volumes
from scripts.kspace.masks import ColumnMask
from scripts.networks import load_weights
from scripts.protocol.cells import FINISHED, Context, read_record, run_cell
from scripts.protocol.plan import ORIGINAL, Cell, Plan, cell_settings
from scripts.protocol.results import Results, read_cells, weights_path
from scripts.requests import Cohorts
from scripts.run.files import held

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a study found."""

    cells: Sequence[Cell]  # trainings first
    records: Mapping[str, Mapping[str, Any]]  # name of a cell -> its record
    results: Results  # of the finished cells
    main_fractions: Mapping[str, float]  # method -> the retain fraction at which it is compared with the others
    fraction_methods: Sequence[str]  # those that were run at several retain fractions

    @property
    def failed(self) -> int:
        """The number of cells that did not finish."""
        return sum(record["status"] != FINISHED for record in self.records.values())


class Study:
    """The protocol of Xue et al. 2024 on any datalist and forget request.

    Every training and unlearning run is a cell: a folder of its own under ``output_dir/cells``, made by the bundle's
    own verbs, finished when its record ``cell.json`` exists. A study that was stopped resumes where it stopped;
    failed cells are tried again.

    Args:
        plan: What is compared.
        context: What all cells share.
        data: The datalist's volumes, split by the forget request.
        settings: The configuration of the study, of which the verbs take what they declare too.
        devices: PyTorch devices; None: the GPUs there are, else the CPU.
        n_jobs: How many cells run at the same time on this machine.
        engine: ``local``, or ``dask``: the workers of a cluster, each on the first GPU that it sees or else on its CPU,
            take the place of ``devices`` and ``n_jobs``.
        scheduler: Address of the cluster's scheduler, such as ``tcp://host:8786``.

    Raises:
        ValueError: what cannot work, before work starts.
    """

    def __init__(
        self,
        plan: Plan,
        context: Context,
        data: Cohorts,
        settings: Mapping[str, Any],
        devices: Sequence[str] | None = None,
        n_jobs: int = 1,
        engine: str = "local",
        scheduler: str | None = None,
    ) -> None:
        _expect_engine(engine, scheduler, devices)
        self.scheduler = scheduler
        self.plan, self.context, self.data, self.n_jobs = plan, context, data, n_jobs
        gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        self.devices = [str(device) for device in devices or gpus or ["cpu"]]
        self.training = [self._completed(cell, settings) for cell in plan.training()]
        self.unlearning = [self._completed(cell, settings) for cell in plan.unlearning()]

    def check(self, network: torch.nn.Module, mask: ColumnMask, check_values: bool = True) -> None:
        """Check given weights, cohorts, volumes and finished cells.

        Args:
            network: The architecture of all models; given weights are tried on it.
            mask: The undersampling pattern.
            check_values: Read all values once and refuse NaN or Inf.

        Raises:
            FileNotFoundError, ValueError: weights, cohorts or volumes that cannot be used; a cell that was finished
                with other settings.
            ConnectionError, ImportError, RuntimeError: a cluster that cannot be used.
        """
        if self.scheduler is not None:
            from scripts.protocol.cluster import check_cluster  # needs a package that is optional

            check_cluster(self.scheduler, self.context.datalist)
        for path in self.plan.given:
            load_weights(network, path)
        cohorts = self.data.evaluation()
        missing = [name for name in ("BTA", "KTA") if name not in cohorts]
        if missing:
            raise ValueError(
                f"{self.data.datalist}: 'test': expected retain and forget volumes to measure BTA and KTA, found none "
                f"for {', '.join(missing)}"
            )
        for cell in [*self.training, *self.unlearning]:
            self._check_finished(cell)
        volumes = self.data.sections["training"] + self.data.validation + self.data.test
        check_volumes(volumes, network, mask, check_values)

    def run(self) -> Outcome:
        """Run what is not finished, and return what all cells found."""
        cells = [*self.training, *self.unlearning]
        where = self.scheduler or f"{', '.join(self.devices)}, {self.n_jobs} at a time"
        logger.info("%d cells, on %s", len(cells), where)
        records = self._run(self.training)
        original = next(cell for cell in self.training if cell.role == ORIGINAL)
        if records[original.name]["status"] == FINISHED:
            weights = weights_path(original, records[original.name], self.context.root)
            records |= self._run(self.unlearning, weights)
        else:
            missing = {"status": "not run", "error": "the original model is missing: its training failed"}
            records |= {cell.name: missing for cell in self.unlearning}
        results = read_cells(cells, records, self.context.root)
        return Outcome(cells, records, results, self.plan.main_fractions, list(self.plan.fraction_methods))

    def _run(self, cells: Sequence[Cell], original: str | None = None) -> dict[str, dict]:
        """Run cells that do not depend on each other; name -> record, of the finished and of the failed ones."""
        context = self.context
        context.root.mkdir(parents=True, exist_ok=True)
        if self.scheduler is None:
            slots = [
                (context.root / f".device-{i}.lock", self.devices[i % len(self.devices)]) for i in range(self.n_jobs)
            ]
            engine = _on_this_machine(self.n_jobs, context.threads)
            run = partial(_on_free_device, context=context, slots=slots, original=original)
        else:
            from scripts.protocol import cluster  # needs a package that is optional

            engine = cluster.on_cluster(self.scheduler)
            shared: dict[str, Any] = {"expected": cluster.same_everywhere(), "folder": os.getcwd()}
            run = partial(cluster.run_on_worker, context=context, original=original, **shared)
        records: dict[str, dict] = {}
        with engine as parallel:
            for name, record in parallel(delayed(run)(cell) for cell in cells):
                records[name] = record
                finished = record["status"] == FINISHED
                said = f"finished, took {record['seconds']:.1f} s" if finished else f"failed: {record['error']}"
                level = logging.INFO if finished else logging.ERROR
                logger.log(level, "cell %d of %d, %s: %s", len(records), len(cells), name, said)
        return {cell.name: records[cell.name] for cell in cells}

    def _completed(self, cell: Cell, study: Mapping[str, Any]) -> Cell:
        shared = self.context
        settings = cell_settings(cell, study, shared.datalist, shared.forget_request, Path(shared.configs))
        return replace(cell, settings=settings)

    def _check_finished(self, cell: Cell) -> None:
        folder = self.context.folder(cell)
        record = read_record(folder)
        if record is None or record["status"] != FINISHED or record["settings"] == cell.settings:
            return
        expected, found = _flat(cell.settings), _flat(record["settings"])
        key = next(k for k in {**expected, **found} if expected.get(k) != found.get(k))
        raise ValueError(
            f"{folder}: finished with other settings: {key!r}: expected {expected.get(key)!r}, found "
            f"{found.get(key)!r}; choose another 'output_dir', or remove the folder to run the cell again"
        )


def _expect_engine(engine: str, scheduler: str | None, devices: Sequence[str] | None) -> None:
    if engine == "local":
        if scheduler is not None:
            raise ValueError(f"protocol: 'scheduler': expected null with 'engine' local, found {scheduler!r}")
        return
    if scheduler is None:
        raise ValueError(
            "protocol: 'scheduler': expected an address such as tcp://host:8786 with 'engine' dask, found null"
        )
    if devices is not None:
        raise ValueError(
            "protocol: 'devices': expected null with 'engine' dask, where each worker takes the first GPU that it "
            f"sees, found {list(devices)}"
        )
    if find_spec("distributed") is None:
        raise ImportError("protocol: 'engine': dask needs the package distributed: pip install -e '.[cluster]'")


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(settings, Mapping) or not settings:
        return {prefix: settings}
    return {k: v for key, value in settings.items() for k, v in _flat(value, f"{prefix}#{key}".lstrip("#")).items()}


@contextlib.contextmanager
def _on_this_machine(n_jobs: int, threads: int) -> Iterator[Parallel]:
    if n_jobs > 1:
        os.environ["TQDM_DISABLE"] = "1"  # workers inherit it: bars of several cells would overwrite each other
    with parallel_config(backend="loky", inner_max_num_threads=threads):
        yield Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")


def _on_free_device(
    cell: Cell, context: Context, slots: Sequence[tuple[Path, str]], original: str | None
) -> tuple[str, dict]:
    """Run the cell on the first device whose lock is free; there are as many locks as workers."""
    _die_with_parent()
    while True:
        for path, device in slots:
            try:
                with held(path, wait=False):
                    return cell.name, run_cell(cell, context, device, original)
            except Timeout:
                continue
        time.sleep(0.5)


@cache
def _die_with_parent() -> None:
    """Let a worker end when its parent is gone, killed ones included; called again it does nothing."""
    if multiprocessing.parent_process() is None:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
