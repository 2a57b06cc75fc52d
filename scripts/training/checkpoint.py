"""A run that was stopped resumes after its last whole epoch."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Events
from ignite.handlers import Checkpoint as IgniteCheckpoint

from scripts.run.config import differences, running_config
from scripts.run.engines import Trainer
from scripts.run.files import write_bytes
from scripts.run.processes import broadcast, gather

# keys of a configuration that change where or how fast a run works, or what follows it, but not its weights
NOT_COMPARED = (
    "imports", "verb", "bundle_root", "dataset_dir", "overwrite", "run_folder",
    "output_dir", "device", "batch_size", "num_workers", "check_values", "initialize", "finalize", "resume",
    "checkpoint", "trained_network", "evaluate", "evaluate_models", "references", "comparison", "_meta_",
)  # fmt: skip
logger = logging.getLogger(__name__)


class Checkpoint:
    """Handler that saves the whole state of a run at each ``EPOCH_COMPLETED`` and resumes from it at ``STARTED``.

    What the other handlers make from the original weights at ``STARTED`` (copies, masks, teachers) they make again,
    from the same weights and seed; then this handler loads the state of the last epoch. So list it after all handlers
    that have a state or work at ``STARTED``, and before those that only show something. Ignite's ``Checkpoint`` writes
    the file in the first process, whole or not at all; MONAI's ``CheckpointSaver`` may leave half a file.

    Args:
        path: The checkpoint file.
        objects: Everything with a ``state_dict``, by name: network, optimizer, scheduler, data stream, counters. The
            trainer and PyTorch's random state are added.
        handlers: The handlers of the method; the states of those with a ``state_dict`` are kept too.
        inputs: What went into the run (``RunRecord.inputs``); it must be the same when the run is resumed.
        files: Gives the hashes of the files that went in (``RunRecord.hashes``), which must be the same, too. It is
            called in the first process alone: when a checkpoint is written or found.
        keep: Whether a checkpoint is kept at all.

    Raises:
        ValueError: The file belongs to other settings or inputs, or cannot be read; the message names the file, the
            field, what was found and what was expected.

    Example:
        >>> Checkpoint("unlearned.checkpoint", {}, keep=False).remove()
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        handlers: Sequence[Any] = (),
        inputs: Mapping[str, Any] | None = None,
        files: Callable[[], dict] = dict,
        keep: bool = True,
    ) -> None:
        self.path = Path(path) if keep else None
        stateful = {f"method {i}": handler for i, handler in enumerate(handlers) if hasattr(handler, "state_dict")}
        self.objects = {**objects, **stateful, "random": RandomState()}
        self.inputs = dict(inputs or {})
        self.files = files

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        if self.path is None:
            return
        objects = {"trainer": engine, **self.objects}
        if engine.amp and engine.scaler is not None:
            objects["scaler"] = engine.scaler
        objects = {**objects, "random": objects.pop("random")}  # last: loading the others draws random numbers
        engine.add_event_handler(Events.STARTED, self.load, objects)
        engine.add_event_handler(Events.EPOCH_COMPLETED, IgniteCheckpoint(objects, partial(self._write, self.path)))

    def check(self) -> dict | None:
        """Read the file, if there is one; call it before work starts, too.

        Returns:
            The states by name; None where there is no file.
        """
        if self.path is None:
            return None
        self._settings = self._describe()
        if not broadcast(self.path.is_file()):
            return None
        try:
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
            settings, files = kept.pop("settings"), kept.pop("files")
        except Exception as error:  # torch.load raises almost any
            raise ValueError(
                f"{self.path}: expected a checkpoint, found a file that does not load; remove it to start again"
            ) from error
        for field, found, expected in gather(self._mismatches(settings, files))[0]:
            raise ValueError(
                f"{self.path}: checkpoint of another run: {field!r}: expected {expected!r}, found {found!r}; "
                "remove the file to start again"
            )
        return kept

    def _mismatches(self, settings: dict, files: dict) -> list[tuple[str, Any, Any]]:
        """In what the run of the checkpoint differs from this one, as the first process sees it."""
        if idist.get_rank() > 0:
            return []
        # the files last: to hash large ones takes minutes
        return list(differences(settings, self._settings)) or list(differences(files, self.files()))

    def load(self, engine: Trainer, objects: Mapping[str, Any]) -> None:
        """Resume from the file, if there is one."""
        kept = self.check()
        if kept is not None:
            IgniteCheckpoint.load_objects(objects, kept)
            logger.info("resumes after epoch %d, from %s", engine.state.epoch, self.path)

    def remove(self) -> None:
        """Remove the file, once the run's results are written."""
        if self.path is not None and idist.get_rank() == 0:
            self.path.unlink(missing_ok=True)

    @idist.one_rank_only()
    def _write(self, path: Path, state: Mapping, filename: str, metadata: Mapping | None = None) -> None:
        content = io.BytesIO()
        torch.save({**state, "settings": self._settings, "files": self.files()}, content)
        write_bytes(path, content.getbuffer())

    def _describe(self) -> dict:
        """All that decides the result of the run, as plain JSON."""
        configuration = {key: value for key, value in running_config().items() if key not in NOT_COMPARED}
        description = {**self.inputs, "configuration": configuration}
        return json.loads(json.dumps(description, default=str))


class RandomState:
    """The state of PyTorch's random number generators, which is the same in all processes."""

    def state_dict(self) -> dict:
        """The states of the CPU's generator and, where there is a GPU, of the current GPU's."""
        gpu = {"gpu": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
        return {"cpu": torch.get_rng_state(), **gpu}

    def load_state_dict(self, state: dict) -> None:
        """Continue the random numbers from a kept state."""
        torch.set_rng_state(state["cpu"])
        if "gpu" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["gpu"])
