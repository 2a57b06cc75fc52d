"""The whole study: what is checked first, the cells, and what is written at the end."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scripts.data import check_volumes
from scripts.data.masks import ColumnMask
from scripts.networks import load_weights
from scripts.protocol.cells import FINISHED, Surroundings, read_record
from scripts.protocol.plan import (
    ORIGINAL,
    Cell,
    cell_settings,
    expect_seeds,
    fixed_fraction,
    plan_training,
    plan_unlearning,
)
from scripts.protocol.publish import publish
from scripts.protocol.results import read_results
from scripts.protocol.runner import run_cells
from scripts.requests import Cohorts
from scripts.run_config import running_config

logger = logging.getLogger(__name__)


class Study:
    """The protocol of Xue et al. 2024 on any datalist and forget request.

    Every training and unlearning run is a cell: a folder of its own under ``output_dir/cells``, made by the bundle's
    own verbs, finished when its record ``cell.json`` exists. A study that was stopped goes on where it stopped;
    failed cells are tried again.

    Args:
        output_dir: where cells, tables, figures and ``report.html`` go.
        datalist: path of the datalist.
        forget_request: mapping or file.
        network: the architecture of all models; its weights are not used.
        mask: undersampling pattern.
        configs: folder of the verbs' configs.
        seed: of the original, of the forget-only model and of the bootstrap.
        methods: names of overlays in ``methods``, or ``default`` for the method of ``unlearn.yaml``.
        fraction_methods: those of them that are also run at each of ``retain_fractions``.
        retain_fraction: share of the retain set that unlearning may read.
        retain_fractions: shares for ``fraction_methods``.
        seeds: of unlearning and of the draw of the retain subset.
        oracle_seeds: of the oracles' trainings; two or more give the oracle's band.
        weights: of G; None: train it.
        oracle_weights: of one oracle, or a list of several; None: train them.
        dynamics: whether to evaluate each epoch of unlearning, for the first seed.
        devices: PyTorch devices; None: the GPUs there are, else the CPU.
        n_jobs: cells at the same time.
        threads: PyTorch threads of a cell.
        check_values: read all values once before work starts and refuse NaN or Inf.
        viewer_megabytes: upper bound of the images in the report's slice viewer.
        audit_section: HTML of an audit to show in the report.

    Raises:
        FileNotFoundError, ValueError: what cannot work, before work starts.
    """

    def __init__(
        self,
        output_dir: str,
        datalist: str,
        forget_request: str | Mapping,
        network: torch.nn.Module,
        mask: ColumnMask,
        configs: str,
        methods: Sequence[str],
        fraction_methods: Sequence[str],
        retain_fraction: float,
        retain_fractions: Sequence[float],
        seeds: Sequence[int],
        oracle_seeds: Sequence[int],
        seed: int = 0,
        weights: str | None = None,
        oracle_weights: str | Sequence[str] | None = None,
        dynamics: bool = True,
        devices: Sequence[str] | None = None,
        n_jobs: int = 1,
        threads: int = 1,
        check_values: bool = True,
        viewer_megabytes: float = 8.0,
        audit_section: str | None = None,
    ) -> None:
        _check_counts(n_jobs=n_jobs, threads=threads)
        self.output_dir = Path(output_dir)
        self.network, self.mask, self.seed = network, mask, seed
        self.viewer_megabytes, self.audit_section = viewer_megabytes, audit_section
        self.check_values, self.n_jobs = check_values, n_jobs
        self.devices = [str(device) for device in devices] if devices else _devices()
        configs_folder = Path(configs)
        self.around = Surroundings(self.output_dir / "cells", configs_folder, datalist, forget_request, threads)
        self.fraction_methods = list(fraction_methods)
        oracles = [oracle_weights] if isinstance(oracle_weights, (str, Path)) else list(oracle_weights or [])
        for path in [*([weights] if weights else []), *oracles]:
            load_weights(network, path)
        if not oracles:
            expect_seeds("oracle_seeds", oracle_seeds)
        unlearning = plan_unlearning(
            methods, fraction_methods, retain_fraction, retain_fractions, seeds, configs_folder, dynamics
        )
        fixed = {method: fixed_fraction(method, configs_folder) for method in methods}
        self.main_fraction = {m: retain_fraction if fraction is None else fraction for m, fraction in fixed.items()}
        if not forget_request:
            raise ValueError("protocol: 'forget_request': expected a file or a mapping, found none")
        self.data = Cohorts(datalist, forget_request)
        self._check_cohorts(datalist)
        study = running_config()

        def completed(cell: Cell) -> Cell:
            return replace(cell, settings=cell_settings(cell, study, datalist, forget_request, configs_folder))

        self.training = [completed(cell) for cell in plan_training(seed, oracle_seeds, weights, oracles)]
        self.unlearning = [completed(cell) for cell in unlearning]

    def check(self) -> None:
        """Check volumes and finished cells.

        Raises:
            ValueError: a volume that cannot go through the network; a cell that was finished with other settings.
        """
        volumes = self.data.sections["training"] + self.data.validation + self.data.test
        for cell in [*self.training, *self.unlearning]:
            self._check_finished(cell)
        check_volumes(volumes, self.network, self.mask, self.check_values)

    def run(self) -> dict[str, dict]:
        """Run what is not finished, write tables, figures and report, and return the cells' records."""
        total = len(self.training) + len(self.unlearning)
        logger.info("%d cells, %d at a time, on %s", total, self.n_jobs, ", ".join(self.devices))
        records = run_cells(self.training, self.around, self.devices, self.n_jobs)
        original = self._original(records)
        if original is None:
            missing = {"status": "not run", "error": "the original model is missing: its training failed"}
            records |= {cell.name: missing for cell in self.unlearning}
        else:
            records |= run_cells(self.unlearning, self.around, self.devices, self.n_jobs, original)
        cells = [*self.training, *self.unlearning]
        publish(self, cells, records, read_results(cells, records, self.around.root))
        return records

    def _original(self, records: Mapping[str, Mapping[str, Any]]) -> str | None:
        cell = next(cell for cell in self.training if cell.role == ORIGINAL)
        finished = records[cell.name]["status"] == FINISHED
        return weights_path(cell, records[cell.name], self.around.root) if finished else None

    def _check_cohorts(self, datalist: str) -> None:
        cohorts = self.data.evaluation()
        missing = [name for name in ("BTA", "KTA") if name not in cohorts]
        if missing:
            raise ValueError(
                f"{datalist}: 'test': expected retain and forget volumes to measure BTA and KTA, found none for "
                f"{', '.join(missing)}"
            )

    def _check_finished(self, cell: Cell) -> None:
        folder = self.around.folder(cell)
        record = read_record(folder)
        if record is None or record["status"] != FINISHED or record["settings"] == cell.settings:
            return
        expected, found = _flat(cell.settings), _flat(record["settings"])
        key = next(k for k in {**expected, **found} if expected.get(k) != found.get(k))
        raise ValueError(
            f"{folder}: finished with other settings: '{key}': expected {expected.get(key)!r}, found "
            f"{found.get(key)!r}; choose another 'output_dir', or remove the folder to run the cell again"
        )


def weights_path(cell: Cell, record: Mapping[str, Any], root: Path) -> str:
    """The weights file of a finished cell; ``root`` is the study's ``cells`` folder."""
    return cell.given or str(root / cell.name / record["weights"]["path"])


def _devices() -> list[str]:
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if type(count) is not int or count < 1:
            raise ValueError(f"protocol: '{name}': expected a whole number from 1, found {count!r}")


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(settings, Mapping) or not settings:
        return {prefix: settings}
    return {k: v for key, value in settings.items() for k, v in _flat(value, f"{prefix}#{key}".lstrip("#")).items()}
