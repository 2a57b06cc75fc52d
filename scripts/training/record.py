"""The record of a run: what went in, what was done, what came out, at which cost."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
import os
import platform
import resource
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Protocol

import ignite.distributed as idist
import torch
from ignite.engine import Events

from scripts.data.digests import known_sha256
from scripts.data.volumes import Volume
from scripts.networks import describe_network
from scripts.requests.forget_request import ForgetRequest
from scripts.run import opened_scans, weights_read
from scripts.run.config import command, running_config
from scripts.run.engines import Trainer
from scripts.run.files import file_sha256, write_text
from scripts.run.processes import gather
from scripts.training.file_hashes import FileHashes
from scripts.training.numerics import numerics
from scripts.training.pass_counter import PassCounter

PACKAGES = ("mri-unlearning", "monai", "torch", "pytorch-ignite", "numpy", "h5py", "nibabel", "scikit-image")
logger = logging.getLogger(__name__)


class Evaluation(Protocol):
    """What gives the results of a record, such as :class:`scripts.evaluation.Comparison`."""

    def run(self) -> Mapping:
        """Evaluate every model: {model: {cohort: {metric: {"mean", "std"}}}}."""


class RunRecord:
    """Handler that collects the facts of a training or unlearning run, to be written as JSON at its end.

    Args:
        verb: The verb that is run, e.g. ``unlearn``.
        counter: The counter of passes, attached to the same trainer.
        seed: The seed of the run.
        datalist: The path of the datalist; None without one.
        request: The forget request that was applied; None without one.
        training: The volumes that the run read, by role, e.g. retain subset and forget set.
        weights_in: The file of the weights that the run started from; None and False: there are none.
        settings: Further facts for the record, e.g. method and retain fraction.
        evaluated: The volumes that the run's results are about, by cohort.

    The record states size and SHA-256 of each file that was to be read or evaluated. The sizes are known before the
    run; the hashes are computed beside it, by the process that writes. What data sets and weights were really opened
    before training ended stands under ``opened``, as they reported it themselves.

    Attributes:
        inputs: What went into the run, known before it starts: all but the hashes of the volumes.
    """

    def __init__(
        self,
        verb: str,
        counter: PassCounter,
        seed: int,
        datalist: str | None,
        request: ForgetRequest | None,
        training: Mapping[str, Sequence[Volume]],
        weights_in: str | Literal[False] | None = None,
        settings: Mapping | None = None,
        evaluated: Mapping[str, Sequence[Volume]] | None = None,
    ) -> None:
        self.counter = counter
        self._volumes = {"data": dict(training), "evaluated": dict(evaluated or {})}
        self._paths = [v.path for part in self._volumes.values() for volumes in part.values() for v in volumes]
        self._bytes = {path: Path(path).stat().st_size for path in self._paths}
        self._hashes: FileHashes | None = None
        self.facts = {
            "verb": verb,
            **(settings or {}),
            "seed": seed,
            "forget_request": None if request is None else _request(request),
            "datalist": None if datalist is None else {"path": _at_home(datalist), "sha256": file_sha256(datalist)},
            **self._files(),
            "weights_in": _weights(weights_in),
        }
        self.inputs = copy.deepcopy(self.facts)
        self._seconds = 0.0  # before an earlier stop
        self._before: dict[str, int] = {}  # what was opened before an earlier stop

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.COMPLETED, self._complete)

    def _start(self, engine: Trainer) -> None:
        for role, entry in self.facts["data"].items():
            logger.debug("reads %s: %d volumes, %d slices", role, len(entry["volumes"]), entry["slices"])
        if idist.get_rank() == 0:
            self._begin_hashes()
        self._clock = time.perf_counter()
        self.facts["started"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")

    def _complete(self, engine: Trainer) -> None:
        self.facts["cost"] = {
            "steps": engine.state.iteration,
            "epochs": engine.state.epoch,
            "forward_slices": self.counter.forward,
            "backward_slices": self.counter.backward,
            "slices_by_part": self.counter.parts,
            "seconds": round(self._elapsed(), 3),
            "processes": idist.get_world_size(),
        }
        self.facts["device"] = str(engine.state.device)
        self.facts["network"] = describe_network(engine.network)
        self.facts["opened"] = self._opened()
        if idist.get_rank() == 0:
            self._begin_hashes().refuse_changed()

    def _opened(self) -> dict[str, list[dict[str, Any]]]:
        """Scans that were opened and weights that were read since the run began, by all processes."""
        counts = sum((Counter(part) for part in gather(dict(opened_scans()))), Counter(self._before))
        scans = [
            {"volume": Path(path).stem, "sha256": known_sha256(path), "slices": count}
            for path, count in sorted(counts.items())
        ]
        weights = [{"file": Path(path).name, "sha256": digest} for path, digest in sorted(weights_read().items())]
        return {"scans": scans, "weights": weights}

    def state_dict(self) -> dict:
        """When the run began, how long it has run and what it has opened."""
        return {"started": self.facts["started"], "seconds": self._elapsed(), "opened": dict(opened_scans())}

    def load_state_dict(self, state: dict) -> None:
        """Resume: the time that the run took before it was stopped counts too."""
        self.facts["started"], self._seconds = state["started"], state["seconds"]
        self._before = dict(state.get("opened", {}))

    def hashes(self) -> dict[str, dict[str, dict[str, str | None]]]:
        """SHA-256 of the files: kind (``data``, ``evaluated``) -> role -> volume -> hash; waits until all are known.

        Only the first process has them: call it there.
        """
        found = self._begin_hashes()
        return {
            kind: {role: {volume.name: found[volume.path] for volume in volumes} for role, volumes in part.items()}
            for kind, part in self._volumes.items()
        }

    def _begin_hashes(self) -> FileHashes:
        if self._hashes is None:
            self._hashes = FileHashes(self._paths)
        return self._hashes

    def _elapsed(self) -> float:
        return self._seconds + time.perf_counter() - self._clock

    @idist.one_rank_only()
    def write(self, path: str | Path, weights_out: str | Path) -> None:
        """Write the record as JSON, in the first process: facts, configuration as run, environment."""
        self._path = path
        self.facts["weights_out"] = _weights(weights_out)
        self.facts.update(self._files(self._begin_hashes()))
        self.facts["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        self.facts |= {"results": None, "environment": environment(), "command": command()}
        self.facts["configuration"] = running_config()
        self._save()

    def add_results(self, evaluation: Evaluation | None) -> None:
        """Evaluate, and write the record again with the results; without an evaluation it stays as it was written."""
        if evaluation is not None:
            self.facts["results"] = evaluation.run()
            self._save()

    @idist.one_rank_only()
    def _save(self) -> None:
        write_text(self._path, json.dumps(self.facts, indent=2) + "\n")

    def _files(self, hashes: FileHashes | None = None) -> dict:
        """``data`` and ``evaluated``: role -> slices, and name, size and, where they are given, hash of each file."""
        return {
            kind: {
                role: {
                    "slices": sum(volume.num_slices for volume in volumes),
                    "sources": sorted({volume.fields.get("source", "not stated") for volume in volumes}),
                    "volumes": [self._volume(volume, hashes) for volume in volumes],
                }
                for role, volumes in part.items()
            }
            for kind, part in self._volumes.items()
        }

    def _volume(self, volume: Volume, hashes: FileHashes | None) -> dict:
        known = {} if hashes is None else {"sha256": hashes[volume.path]}
        return {"volume": volume.name, "bytes": self._bytes[volume.path], **known}


def environment() -> dict:
    """Versions of the packages that matter, of Python and of this code (SHA-256 over its source files)."""
    digest = hashlib.sha256()
    home = Path(__file__).parents[1]
    for file in sorted(home.rglob("*.py")):
        digest.update(file.relative_to(home).as_posix().encode() + b"\0" + file.read_bytes())
    return {
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "numerics": numerics(),
        "code_sha256": digest.hexdigest(),
    }


def _processor() -> str:
    """The processor's name, which decides the instructions that libraries take; else the architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _request(request: ForgetRequest) -> dict:
    return {"request_id": request.request_id, "reason": request.reason, "forget": list(request.forget)}


def _weights(path: str | Path | Literal[False] | None) -> dict | None:
    return None if not path else {"path": _at_home(path), "sha256": file_sha256(path)}


def _at_home(path: str | Path) -> str:
    """The path with the user's home folder written as ``~``: a record may be shared."""
    text, home = str(path), os.path.expanduser("~")
    return "~" + text.removeprefix(home) if text.startswith(home + "/") else text
