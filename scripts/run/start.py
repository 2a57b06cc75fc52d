"""How every verb begins and ends: what is checked first, and the proof that it was."""

from __future__ import annotations

import logging
import os
import weakref
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from logging.handlers import MemoryHandler
from typing import Any, Protocol

import ignite.distributed as idist
import torch
from monai.bundle import ConfigWorkflow
from monai.utils import set_determinism

from scripts.run import console, errors
from scripts.run.check import check_components, check_references, read_settings, refuse_unknown_keys
from scripts.run.config import (
    bundle_folder,
    bundle_root,
    declared_config,
    is_nested,
    is_tracked,
    quoted,
    running_workflow,
    running_workflows,
    typed_settings,
)
from scripts.run.folder import RunFolder
from scripts.run.source import take


class Reader(Protocol):
    """What opens scans, such as :class:`scripts.data.SliceDataset`, and counts what it opened."""

    def opened(self) -> Mapping[str, int]:
        """Path of each file that was opened -> how many slices were read of it."""


@dataclass
class Run:
    """What is known of a run that has begun.

    Attributes:
        verb: The verb that is run, e.g. ``unlearn``.
        checked: Whether :func:`check_run` has passed.
        folder: The folder of the outputs; None: the verb writes no file.
        readers: Everything that may have opened scans.
        weights: Path of each file of weights that was read -> its SHA-256.
        early: What was logged before the log was opened; None afterwards.
    """

    verb: str
    checked: bool = False
    folder: RunFolder | None = None
    readers: list[Reader] = field(default_factory=list)
    weights: dict[str, str] = field(default_factory=dict)
    early: MemoryHandler | None = None


_runs: weakref.WeakKeyDictionary[ConfigWorkflow, Run] = weakref.WeakKeyDictionary()


def begin(verb: str, seed: int | None = 0, several: bool = False) -> None:
    """First expression of ``initialize``: check a shipped bundle, the configuration, and seed every generator.

    Args:
        verb: The verb that the config file declares, e.g. ``unlearn``.
        seed: The seed, the same in every process; None: the generators are left as they are.
        several: Join the other processes that torchrun started.

    Raises:
        RuntimeError: Processes of torchrun and ``several`` do not go together.
        ValueError: A shipped bundle that was changed, another verb than the config's, an unknown key, or a setting of a
            wrong type or out of range.
    """
    errors.install()
    console.show(silent=int(os.environ.get("RANK", 0)) > 0)
    early = console.keep_early()
    _log_on()
    try:
        workflow = _checked(verb, several)
    except BaseException:
        console.hand_over(early, None)
        raise
    if seed is not None:
        set_determinism(seed)
    _runs[workflow] = run = Run(verb, early=early)
    weakref.finalize(workflow, _close, run)  # an error may end the workflow without ``finish``; also at exit


def _checked(verb: str, several: bool) -> ConfigWorkflow:
    """The running workflow, its configuration checked and settled; see :func:`begin`."""
    from scripts.run.manifest import is_bundle, verify_shipped  # a program: Python warns where its package imports it

    verify_shipped(bundle_root())
    if several or torch.distributed.is_torchelastic_launched():
        from scripts.run import processes  # no part of the inference path

        processes.join() if several else processes.check_single()
    workflow, _ = running_workflow()
    if (folder := bundle_folder(workflow)) != bundle_root() and is_bundle(folder):
        verify_shipped(folder)  # of which another copy's scripts are used
    close_ended()
    declared = declared_config(verb)
    refuse_unknown_keys(declared, workflow.parser.get())
    check_references(workflow.parser.get())
    check_components(declared, workflow.parser.get())
    if workflow.run_id not in (verb, "run"):  # "run" is MONAI's default, where a workflow is made but not run
        raise ValueError(f"run: expected {verb!r}, the verb of these config files, found {workflow.run_id!r}")
    _settle(workflow, take(verb, workflow.parser.get(), declared))
    _settle(workflow, read_settings(verb, workflow.parser.get(), declared, typed_settings()))
    return workflow


def _settle(workflow: ConfigWorkflow, changes: dict[str, Any]) -> None:
    """Put the values that words stand for, the bundle's own folder and what tracking needs into the configuration."""
    if workflow.parser.get("bundle_root") == ".":  # the Model Zoo's convention: the folder that holds configs
        changes = {**changes, "bundle_root": bundle_folder(workflow)}
    if is_tracked(workflow.parser.get()) and "train#trainer" in workflow.parser:
        changes = {**changes, "train#trainer#decollate": True}  # MONAI's handler for MLflow reads the loss of a list
    for key, value in changes.items():
        workflow.parser[key] = quoted(value)
    if changes:
        workflow.parser.parse(reset=True)


@idist.one_rank_only()
def check_run(folder: RunFolder | None = None) -> None:
    """Last expression of ``initialize``: check the folder of the outputs; nothing is written yet.

    Args:
        folder: The folder; None: the verb writes no file.

    Raises:
        ValueError, OSError: See :meth:`RunFolder.check`.
    """
    run = _current()
    if folder is not None:
        folder.check()
    run.folder, run.checked = folder, True


def open_run() -> None:
    """First expression of every verb: demand that ``initialize`` has run to its end, and take the folder.

    Raises:
        RuntimeError: ``initialize`` was not run, or not to its end.
        ValueError, OSError: See :meth:`RunFolder.open`.
    """
    errors.install()
    run = _current()
    if idist.get_rank() > 0:
        return
    if not run.checked:
        raise RuntimeError(f"{run.verb}: expected 'initialize' to have checked the run, found that it did not")
    if run.folder is not None:
        run.folder.open()
        if run.early is not None:
            console.hand_over(run.early, run.folder.handler)
            run.early = None
        errors.tell_what_is_kept(run.folder.kept)


def report_reader(reader: Reader) -> None:
    """Called by what opens scans when it is built, so that the run knows what it opened; outside of a run: nothing."""
    if (run := _run_here()) is not None:
        run.readers.append(reader)


def report_weights(path: str, sha256: str) -> None:
    """Called where weights are read, so that the run knows which; outside of a run: nothing."""
    if (run := _run_here()) is not None:
        run.weights[path] = sha256


def opened_scans() -> Counter[str]:
    """Path of each file of scans that this process and its workers have opened since ``begin`` -> slices read of it."""
    counts: Counter[str] = Counter()
    for reader in _current().readers:
        counts.update(reader.opened())
    return counts


def weights_read() -> dict[str, str]:
    """Path of each file of weights that this process has read since ``begin`` -> its SHA-256."""
    return dict(_current().weights)


def finish() -> None:
    """Last expression of every verb, in ``finalize``: take back what the run left in the process.

    Raises:
        OSError: Standard output did not take all lines; the work itself is done.
    """
    run = _current()
    _close(run)
    if not is_nested() and (lost := errors.lost_output()) is not None:
        raise OSError(f"{lost.removeprefix('Error: ')}; {run.verb} is done")


def _current() -> Run:
    """The run that is going on.

    Raises:
        RuntimeError: It did not begin: ``initialize`` was replaced or left out.
    """
    run = _run_here()
    if run is None:
        workflow, _ = running_workflow()
        raise RuntimeError(
            f"{workflow.run_id}: expected 'initialize' to run first, found {workflow.init_id!r} in its place: is there "
            "a stray word on the command line? A path with spaces needs quotes"
        )
    return run


def _run_here() -> Run | None:
    """The innermost run on the call stack, if it has begun; None outside of a running bundle."""
    return next((_runs[workflow] for workflow in running_workflows() if workflow in _runs), None)


def _log_on() -> None:
    """Go on with the logs of the runs that this one is a part of: MONAI's logging file took their handlers away."""
    for workflow in running_workflows():
        if workflow in _runs and (folder := _runs[workflow].folder) is not None and folder.handler is not None:
            logging.getLogger().addHandler(folder.handler)


def _close(run: Run) -> None:
    if run.early is not None:
        console.hand_over(run.early, None)
        run.early = None
    if run.folder is not None:
        run.folder.close()
        run.folder = None
        errors.tell_what_is_kept(None)


def close_ended() -> None:
    """Close the runs of this process that ended with an error: their workflows are no longer being run."""
    going = running_workflows()
    for workflow, run in list(_runs.items()):
        if not any(workflow is other for other in going):
            _close(run)
