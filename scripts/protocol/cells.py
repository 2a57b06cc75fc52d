"""Runs one cell with the bundle's own verbs and leaves its record; a record there means that the cell is finished."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from scripts.protocol.plan import DEFAULT, FORGET_ONLY, FURTHER, ORACLE, UNLEARNED, Cell, config_files
from scripts.run.config import quoted, run_verb
from scripts.run.errors import own_error
from scripts.run.files import file_sha256, held, write_text

RECORD = "cell.json"
FINISHED, FAILED = "finished", "failed"
MODEL = "model"  # the cell's own weights among the rows of its metrics.csv
LATER = "later"  # the same after training went on with the retain set alone
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Context:
    """What all cells of a study share.

    Attributes:
        output_dir: The study's folder.
        configs: Folder of the verbs' configs.
        datalist: Path of the datalist.
        forget_request: The forget request, a mapping or a file.
        threads: PyTorch threads within a cell, fixed so that a cell gives the same bits wherever it runs.
    """

    output_dir: str
    configs: str
    datalist: str
    forget_request: Any
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.forget_request:
            raise ValueError("protocol: 'forget_request': expected a file or a mapping, found none")

    @property
    def root(self) -> Path:
        """The folder of the cells."""
        return Path(self.output_dir) / "cells"

    def folder(self, cell: Cell) -> Path:
        """The folder of a cell."""
        return self.root / cell.name


def read_record(folder: Path) -> dict | None:
    """The record of a cell, or None where the cell was never completed."""
    file = folder / RECORD
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def run_cell(cell: Cell, context: Context, device: str, original: str | None = None) -> dict:
    """Run a cell unless it is finished, and return its record. An error becomes a record too, it is not raised.

    A lock on the cell keeps two processes apart, e.g. a worker that outlives a killed study and the resumed one; the
    operating system releases it with the process that holds it.

    Args:
        cell: What to run.
        context: What all cells share.
        device: PyTorch device.
        original: The weights of G, for unlearning.
    """
    folder = context.folder(cell)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with held(folder.with_name(f".{folder.name}.lock")):
        record = read_record(folder)
        if record is not None and record["status"] == FINISHED:
            return record
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        facts = {"cell": {k: v for k, v in asdict(cell).items() if k != "settings"}, "settings": cell.settings}
        clock = time.perf_counter()
        try:
            with _contained(context.threads):
                result = _work(cell, folder, context, device, original)
            record = {"status": FINISHED, **facts, **result}
        except Exception as error:
            (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            record = {"status": FAILED, **facts, "error": _root_message(error)}
        record["seconds"] = round(time.perf_counter() - clock, 3)
        write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")
    return record


def _work(cell: Cell, folder: Path, context: Context, device: str, original: str | None) -> dict:
    common = {
        "datalist": context.datalist,
        "forget_request": context.forget_request,
        "device": device,
        "check_values": False,
    }
    run_record: Path | None
    if cell.given:
        weights, run_record = Path(cell.given), Path(cell.given).with_suffix(".json")
        run_record = run_record if run_record.is_file() else None
    else:
        weights = _make_weights(cell, folder, context, common, original)
        run_record = weights.with_suffix(".json")
    models = {MODEL: weights, **{f"epoch {i}": path for i, path in enumerate(_epoch_files(folder), start=1)}}
    if cell.further_training:
        models[LATER] = _train_on(cell, weights, folder / LATER, context, common)
    _run(
        Path(context.configs),
        "evaluate",
        {
            **common,
            **cell.settings["evaluate"],
            "output_dir": str(folder / "evaluation"),
            "weights": {name: str(path) for name, path in models.items()},
            "handlers": [],
            "comparison#figure": False,
        },
    )
    for name in ("epochs", LATER):
        shutil.rmtree(folder / name, ignore_errors=True)
    facts = json.loads(run_record.read_text(encoding="utf-8")) if run_record else {}
    return {
        "weights": {"path": weights.name if not cell.given else str(weights), "sha256": file_sha256(weights)},
        "metrics": "evaluation/metrics.csv",
        "run_record": None if run_record is None else run_record.name if not cell.given else str(run_record),
        "cost": facts.get("cost"),
        "forgetting": facts.get("forgetting"),
        "slices_read": {role: entry["slices"] for role, entry in facts.get("data", {}).items()},
    }


def _make_weights(cell: Cell, folder: Path, context: Context, common: Mapping, original: str | None) -> Path:
    settings = {**common, "output_dir": str(folder), "seed": cell.seed}
    if cell.role != UNLEARNED:
        kind = {"oracle": cell.role == ORACLE, "forget_only": cell.role == FORGET_ONLY}
        _run(Path(context.configs), "train", {**settings, **cell.settings["train"], **kind})
        return folder / f"{cell.role}.pt"
    if cell.fraction:
        settings["retain_fraction"] = cell.fraction
    settings |= {"weights": original, "evaluate_models": False, "epoch_weights": cell.epochs}
    _run(Path(context.configs), "unlearn", {**settings, **cell.settings["unlearn"]}, cell.method)
    return folder / "unlearned.pt"


def _train_on(cell: Cell, weights: Path, folder: Path, context: Context, common: Mapping) -> Path:
    """The weights after training went on with the retain set alone."""
    settings = {**common, "output_dir": str(folder), "seed": cell.seed, "weights": str(weights)}
    settings |= {"evaluate_models": False, **cell.settings["further_training"], "enter_in_ledger": False}
    _run(Path(context.configs), "unlearn", settings, FURTHER)
    return folder / "unlearned.pt"


def _epoch_files(folder: Path) -> list[Path]:
    """Weights after each epoch, in order."""
    return sorted((folder / "epochs").glob("*.pt"), key=lambda path: int(path.stem.rpartition("=")[2]))


def _run(configs: Path, verb: str, overrides: Mapping[str, Any], method: str = DEFAULT) -> None:
    """One verb of the bundle, as the command line runs it."""
    files = config_files(configs, verb, method)
    settings = {key: quoted(value) for key, value in overrides.items()}
    run_verb(verb, files, **{"logging_file": False, **settings})


@contextlib.contextmanager
def _contained(threads: int) -> Iterator[None]:
    """Fix the threads, and take back what a verb leaves in the process: log files, levels, search path."""
    log = logging.getLogger()
    before = list(log.handlers), log.level, torch.get_num_threads(), sys.excepthook, list(sys.path)
    inputs = logging.getLogger("monai.bundle.scripts")
    inputs_level = inputs.level
    log.setLevel(logging.INFO)
    inputs.setLevel(logging.WARNING)  # it lists all overrides, which the records hold
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        for handler in set(log.handlers) - set(before[0]):
            log.removeHandler(handler)
            handler.close()
        log.setLevel(before[1])
        inputs.setLevel(inputs_level)
        torch.set_num_threads(before[2])
        sys.excepthook = before[3]
        sys.path[:] = before[4]


def _root_message(error: BaseException) -> str:
    """Type and message of the error itself, which MONAI wraps in the expression that failed."""
    error = own_error(error)
    return f"{type(error).__name__}: {error}"
