"""Networks to learn from: the original as it was, and a blind teacher that never saw the forget set."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import ignite.distributed as idist
import torch

from scripts.data.volumes import Volume
from scripts.kspace.fourier import crop_like
from scripts.networks.weights import load_weights, save_weights, unwrap
from scripts.run.engines import Handler, Trainer
from scripts.run.files import file_sha256, write_text
from scripts.run.kinds import Count, Positive
from scripts.run.processes import broadcast
from scripts.training import PassCounter
from scripts.unlearning.fit import fit, initialise

logger = logging.getLogger(__name__)

Reconstruct = Callable[[torch.nn.Module], torch.Tensor]  # a network -> its output (B, 1, H, W) on a given batch


class Teacher(Protocol):
    """A source of images to learn from: :class:`Original` or :class:`BlindTeacher`."""

    def image(self, reconstruct: Reconstruct) -> torch.Tensor:
        """Image (B, 1, H, W) without gradient; ``reconstruct`` maps a network to its output on a batch."""


def freeze(network: torch.nn.Module) -> torch.nn.Module:
    """Freeze a network for good: evaluation mode, and no weight takes a gradient. Returns the network."""
    return network.eval().requires_grad_(False)


def frozen_copy(network: torch.nn.Module) -> torch.nn.Module:
    """A frozen copy of the bare network, on its device.

    Example:
        >>> network = torch.nn.Linear(1, 1)
        >>> any(weight.requires_grad for weight in frozen_copy(network).parameters())
        False
    """
    return freeze(copy.deepcopy(unwrap(network)))


class Original(Handler):
    """Handler that keeps G, ``network``: a frozen copy of the network as it was at ``STARTED``."""

    def start(self, engine: Trainer) -> None:
        """Copy the network."""
        self.network = frozen_copy(engine.network)

    def image(self, reconstruct: Reconstruct) -> torch.Tensor:
        """G's image (B, 1, H, W); ``reconstruct`` maps a network to its output on a batch."""
        with torch.no_grad():
            return reconstruct(self.network)


def loss_to_image(engine: Trainer, prediction: torch.Tensor, label: dict, image: torch.Tensor) -> torch.Tensor:
    """Distance D of two reconstructions: J with one of them as the reference image.

    Args:
        engine: The trainer, whose loss function is used.
        prediction: A reconstruction, (B, 1, H, W).
        label: The label of the batch. The size (h, w) of its target is what is compared; its maxima scale J.
        image: The image that takes the place of the target, (B, 1, H, W); no gradient flows into it.

    Returns:
        The distance of each sample, (B,).
    """
    target = crop_like(image.detach(), label["target"]).to(label["target"].dtype)
    return engine.loss_function(prediction, {**label, "target": target})


@dataclass(eq=False, repr=False)
class BlindTeacher(Handler):
    """Handler that trains a blind teacher at ``STARTED``, on the retain subset alone.

    A fresh network of the same class is initialised from ``seed``, trained on J for ``steps`` steps (see
    :func:`scripts.unlearning.fit.fit`), then frozen. It is kept as ``<cache>/teacher-<key>.pt`` with a record
    ``.json`` beside it, and read from there when everything that made it is the same; its cost counts either way. List
    it before the handlers that use it.

    Args:
        network: A freshly built network, never the one that unlearns (in a configuration ``"%network"``).
        loader: Batches of the retain subset.
        volumes: The volumes of the retain subset, for the record and the key; none of the forget set.
        steps: The number of optimiser steps.
        learning_rate: The learning rate of Adam at the first step; it decays to 0 along a cosine.
        seed: The seed of the initial weights and of the order of the slices.
        cache: The folder of kept teachers; None: the teacher is not kept.
        counter: The counter to which the passes of a teacher from the cache are added.
        settings: Whatever else decides the batches, e.g. the mask; part of the key.

    Source: Tarun et al. 2023, whose incompetent teacher saw a few epochs of the retain subset.

    Raises:
        ValueError: ``volumes`` holds a forget volume, ``network`` is the trained network, or kept weights are not those
            that their record describes.
    """

    network: torch.nn.Module
    loader: Iterable
    volumes: Sequence[Volume]
    steps: Count
    learning_rate: Positive = 1e-3
    seed: int = 0
    cache: str | Path | None = None
    counter: PassCounter | None = None
    settings: Mapping = field(default_factory=dict)
    ready: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        marked = [volume.name for volume in self.volumes if volume.forget]
        if marked:
            raise ValueError(f"blind teacher: 'volumes': expected none of the forget set, found {', '.join(marked)}")

    def start(self, engine: Trainer) -> None:
        """Read the teacher from the cache, or train it; then freeze it."""
        if self.ready:
            return
        if self.network is engine.network:
            raise ValueError("blind teacher: 'network': expected a fresh network, found the one that unlearns")
        self.network.to(engine.state.device)
        facts = self._facts(engine)
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        path = None if self.cache is None else Path(self.cache) / f"teacher-{key}.pt"
        if path is None or not broadcast(path.with_suffix(".json").is_file()):
            self._train(engine, path, facts)
        else:
            self._read(path)
        freeze(self.network)
        self.ready = True

    def image(self, reconstruct: Reconstruct) -> torch.Tensor:
        """The teacher's image (B, 1, H, W); ``reconstruct`` maps a network to its output on a batch."""
        if not self.ready:
            raise ValueError("blind teacher: expected to be listed before the handlers that use it")
        with torch.no_grad():
            return reconstruct(self.network)

    def _train(self, engine: Trainer, path: Path | None, facts: dict) -> None:
        initialise(self.network, self.seed)
        passes = fit(
            engine, self.network, self.loader, self.steps, self.learning_rate, "training blind teacher", self.seed
        )
        if path is not None and idist.get_rank() == 0:
            save_weights(self.network, path)
            record = {**facts, "forward_slices": passes.forward, "backward_slices": passes.backward}
            record["weights"] = {"path": path.name, "sha256": file_sha256(path)}
            write_text(path.with_suffix(".json"), json.dumps(record, indent=2) + "\n")
            logger.info("blind teacher: trained for %d steps, kept as %s", self.steps, path)

    def _read(self, path: Path) -> None:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if not path.is_file() or file_sha256(path) != record["weights"]["sha256"]:
            raise ValueError(f"{path}: expected the weights that its record describes; remove the record to retrain")
        load_weights(self.network, path)
        if self.counter is not None:
            self.counter.add("kept blind teacher", record["forward_slices"], record["backward_slices"])
        logger.info("blind teacher: read from %s", path)

    def _facts(self, engine: Trainer) -> dict:
        """Everything that decides the teacher, as plain JSON."""
        shapes = {name: list(value.shape) for name, value in self.network.state_dict().items()}
        architecture = hashlib.sha256(f"{self.network} {shapes}".encode()).hexdigest()
        return {
            "network": {"class": type(self.network).__name__, "architecture_sha256": architecture},
            "volumes": [[v.name, list(v.kspace_shape), v.max_value] for v in self.volumes],
            "steps": self.steps,
            "batch_size": getattr(self.loader, "batch_size", None),
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            "amp": engine.amp,
            "loss": _settings(engine.loss_function),
            **{name: str(value) for name, value in self.settings.items()},
        }


def _settings(thing: object) -> list[str]:
    """The name and the numeric attributes of a loss, module or function."""
    numbers = {k: v for k, v in getattr(thing, "__dict__", {}).items() if type(v) in (int, float)}
    return [getattr(thing, "__name__", type(thing).__name__), *(f"{k}={numbers[k]}" for k in sorted(numbers))]
