"""How every verb begins: what is checked first, the folder of its outputs, and the proof that both were done."""

from __future__ import annotations

import logging
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import ignite.distributed as idist
import torch
from monai.bundle import ConfigWorkflow
from monai.utils import set_determinism

from scripts import errors
from scripts.files import check_disk_space
from scripts.run_config import bundle_root, declared_config, refuse_unknown_keys, running_workflow
from scripts.shipping.manifest import verify_shipped

OUTPUT_BYTES = 50_000_000  # log, TensorBoard, tables and pictures


@dataclass
class Run:
    """What is known of a run that has begun.

    Attributes:
        verb: what is run, e.g. ``unlearn``.
        checked: whether :func:`check_run` has passed.
        log: the log file that :func:`open_run` opens, if any.
        handlers: of the log, to be taken back at the end.
    """

    verb: str
    checked: bool = False
    log: Path | None = None
    handlers: list[logging.Handler] = field(default_factory=list)


_runs: weakref.WeakKeyDictionary[ConfigWorkflow, Run] = weakref.WeakKeyDictionary()


def begin(verb: str, seed: int | None = 0, several: bool = False) -> None:
    """First expression of ``initialize``: check a shipped bundle, the configuration, and seed every generator.

    Args:
        verb: what the config file declares, e.g. ``unlearn``.
        seed: the same in every process; None: the generators are left as they are.
        several: join the other processes that torchrun started.

    Raises:
        RuntimeError: processes of torchrun and ``several`` do not go together.
        ValueError: another verb than the config's, an unknown key, or a shipped bundle that was changed.
    """
    errors.install()
    verify_shipped(bundle_root())
    if several or torch.distributed.is_torchelastic_launched():
        from scripts.training import processes  # no part of the inference path

        processes.join() if several else processes.check_single()
    workflow, _ = running_workflow()
    refuse_unknown_keys(declared_config(verb), workflow.parser.get())
    if workflow.run_id not in (verb, "run"):  # "run" is MONAI's default, where a workflow is made but not run
        raise ValueError(f"run: expected {verb!r}, the verb of these config files, found {workflow.run_id!r}")
    if workflow.parser.get("bundle_root") == ".":  # the Model Zoo's convention: the folder that holds configs
        workflow.parser["bundle_root"] = str(Path(workflow.config_root_path).resolve().parent)
        workflow.parser.parse(reset=True)
    if seed is not None:
        set_determinism(seed)
    _runs[workflow] = Run(verb)


@idist.one_rank_only()
def check_run(log: str | Path | None, network: torch.nn.Module | None = None, resume: bool = False) -> None:
    """Last expression of ``initialize``: check the folder of the outputs; nothing is written yet.

    Args:
        log: the log file, in the folder of the outputs; it is appended to. None: no log.
        network: its size tells how much disk the weights need.
        resume: whether checkpoints are kept, which need more disk.

    Raises:
        OSError: not enough disk for the outputs.
    """
    weights = 0 if network is None else sum(t.nbytes for t in network.state_dict().values())
    copies = 11 if resume else 3  # of the weights, temporary ones included; a checkpoint holds the optimizer's too
    run = _current()
    if log is not None:
        run.log = Path(log)
        check_disk_space(run.log.parent, OUTPUT_BYTES + copies * weights)
    run.checked = True


def open_run() -> None:
    """First expression of every verb: it demands that ``initialize`` has run to its end, and opens the log.

    Raises:
        RuntimeError: ``initialize`` was not run, or not to its end.
    """
    errors.install()
    run = _current()
    if idist.get_rank() > 0:
        return
    if not run.checked:
        raise RuntimeError(f"{run.verb}: expected 'initialize' to have checked the run, found that it did not")
    if run.log is None:
        return
    run.log.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(run.log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    run.handlers.append(handler)


def finish() -> None:
    """Last expression of every verb, in ``finalize``: take back what the run left in the process."""
    for handler in _current().handlers:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _current() -> Run:
    """The run that is going on.

    Raises:
        RuntimeError: it did not begin: ``initialize`` was replaced or left out.
    """
    workflow, _ = running_workflow()
    if workflow not in _runs:
        raise RuntimeError(
            f"{workflow.run_id}: expected 'initialize' to run first, found {workflow.init_id!r} in its place: is there "
            "a stray word on the command line? A path with spaces needs quotes"
        )
    return _runs[workflow]
