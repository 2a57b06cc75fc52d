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
    """What all cells of a study share."""

    output_dir: str  # the study's folder
    configs: str  # folder of the verbs' configs
    datalist: str
    forget_request: Any  # a mapping or a file
    threads: int = 1  # of PyTorch within a cell, fixed so that it gives the same bits wherever it runs

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
        except Exception as wrapped:  # MONAI wraps an error in the expression that failed
            (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            error = own_error(wrapped)
            record = {"status": FAILED, **facts, "error": f"{type(error).__name__}: {error}"}
        record["seconds"] = round(time.perf_counter() - clock, 3)
        write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")
    return record


def _work(cell: Cell, folder: Path, context: Context, device: str, original: str | None) -> dict:
    """Make the cell's weights, let training go on where that is asked, and evaluate them, each by the bundle's verb."""
    configs, own = Path(context.configs), cell.settings

    def verb(name: str, output: Path, settings: Mapping[str, Any], method: str = DEFAULT) -> None:
        shared = {"datalist": context.datalist, "forget_request": context.forget_request, "device": device}
        shared |= {"check_values": False, "output_dir": str(output)}
        overrides = {key: quoted(value) for key, value in {**shared, **settings}.items()}
        run_verb(name, config_files(configs, name, method), **{"logging_file": False, **overrides})

    if cell.given:
        weights = Path(cell.given)
    elif cell.role == UNLEARNED:
        given: dict[str, Any] = {"seed": cell.seed, "weights": original, "evaluate_models": False}
        given |= {"retain_fraction": cell.fraction} if cell.fraction else {}
        verb("unlearn", folder, given | own["unlearn"], cell.method)
        weights = folder / "unlearned.pt"
    else:
        kind = {"oracle": cell.role == ORACLE, "forget_only": cell.role == FORGET_ONLY}
        verb("train", folder, {"seed": cell.seed, **own["train"], **kind})
        weights = folder / f"{cell.role}.pt"
    models = {MODEL: str(weights)}
    if cell.further_training:  # with the retain set alone
        more = {"seed": cell.seed, "weights": str(weights), "evaluate_models": False, **own["further_training"]}
        verb("unlearn", folder / LATER, {**more, "enter_in_ledger": False}, FURTHER)
        models[LATER] = str(folder / LATER / "unlearned.pt")
    shown = {"handlers": [], "comparison#figure": False}
    verb("evaluate", folder / "evaluation", {**own["evaluate"], "weights": models, **shown})
    shutil.rmtree(folder / LATER, ignore_errors=True)
    record = weights.with_suffix(".json")
    facts = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    return {
        "weights": {"path": cell.given or weights.name, "sha256": file_sha256(weights)},
        "metrics": "evaluation/metrics.csv",
        "run_record": (str(record) if cell.given else record.name) if facts else None,
        "cost": facts.get("cost"),
        "forgetting": facts.get("forgetting"),
        "slices_read": {role: entry["slices"] for role, entry in facts.get("data", {}).items()},
    }


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
