"""The whole study: what is checked first, and the cells that are then run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from scripts.data import check_volumes
from scripts.data.checks import ImageSizeCheck
from scripts.data.masks import ColumnMask
from scripts.networks import load_weights
from scripts.protocol.cells import FINISHED, Context, read_record
from scripts.protocol.plan import ORIGINAL, Cell, Plan, cell_settings
from scripts.protocol.results import Result, read_cells, weights_path
from scripts.protocol.runner import run_cells
from scripts.requests import Cohorts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a study found.

    Attributes:
        cells: Every cell, trainings first.
        records: Name of a cell -> its record.
        results: The finished cells.
        main_fractions: method -> the retain fraction at which it is compared with the others.
        fraction_methods: Methods that were run at several retain fractions.
    """

    cells: Sequence[Cell]
    records: Mapping[str, Mapping[str, Any]]
    results: Sequence[Result]
    main_fractions: Mapping[str, float]
    fraction_methods: Sequence[str]

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
        n_jobs: How many cells run at the same time.

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
    ) -> None:
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
        """
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
        check_volumes(volumes, cast(ImageSizeCheck, network), mask, check_values)

    def run(self) -> Outcome:
        """Run what is not finished, and return what all cells found."""
        cells = [*self.training, *self.unlearning]
        logger.info("%d cells, %d at a time, on %s", len(cells), self.n_jobs, ", ".join(self.devices))
        records = run_cells(self.training, self.context, self.devices, self.n_jobs)
        original = self._original(records)
        if original is None:
            missing = {"status": "not run", "error": "the original model is missing: its training failed"}
            records |= {cell.name: missing for cell in self.unlearning}
        else:
            records |= run_cells(self.unlearning, self.context, self.devices, self.n_jobs, original)
        results = read_cells(cells, records, self.context.root)
        return Outcome(cells, records, results, self.plan.main_fractions, list(self.plan.fraction_methods))

    def _completed(self, cell: Cell, study: Mapping[str, Any]) -> Cell:
        shared = self.context
        settings = cell_settings(cell, study, shared.datalist, shared.forget_request, Path(shared.configs))
        return replace(cell, settings=settings)

    def _original(self, records: Mapping[str, Mapping[str, Any]]) -> str | None:
        cell = next(cell for cell in self.training if cell.role == ORIGINAL)
        finished = records[cell.name]["status"] == FINISHED
        return weights_path(cell, records[cell.name], self.context.root) if finished else None

    def _check_finished(self, cell: Cell) -> None:
        folder = self.context.folder(cell)
        record = read_record(folder)
        if record is None or record["status"] != FINISHED or record["settings"] == cell.settings:
            return
        expected, found = _flat(cell.settings), _flat(record["settings"])
        key = next(k for k in {**expected, **found} if expected.get(k) != found.get(k))
        raise ValueError(
            f"{folder}: finished with other settings: '{key}': expected {expected.get(key)!r}, found "
            f"{found.get(key)!r}; choose another 'output_dir', or remove the folder to run the cell again"
        )


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(settings, Mapping) or not settings:
        return {prefix: settings}
    return {k: v for key, value in settings.items() for k, v in _flat(value, f"{prefix}#{key}".lstrip("#")).items()}
