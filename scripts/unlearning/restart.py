"""Exact forgetting: the network restarts from a prior and learns again, from retained scans, what stays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from scripts.data.digests import known_sha256
from scripts.data.volumes import Volume
from scripts.networks import build_network
from scripts.networks.weights import load_weights, unwrap
from scripts.run.engines import Handler, Trainer
from scripts.training.record import RunRecord
from scripts.unlearning.fit import tensors_of
from scripts.unlearning.prior import Prior

logger = logging.getLogger(__name__)
KNOWN = ("scripts", "monai", "torch", "ignite")
"""Packages whose losses and optimisers read nothing but the batch."""


@dataclass(eq=False, repr=False)
class Restart(Handler):
    """Handler that replaces all parameters and buffers by a prior's at ``STARTED``: θ ← θ_prior.

    Nothing of the weights that the network had is left, frozen parameters and buffers included; what is frozen stays as
    the prior has it. Buffers that no weights file holds are those of a new network, from its constructor. The training
    that follows reads retained scans alone, so the result is what it would be if the forgotten scans had never been
    there: the same command, run with other weights or without these scans, gives the same bits. List it first.

    Args:
        prior: Finds the weights, see :class:`scripts.unlearning.Prior`.
        seed: The seed of everything that is drawn from here on.
        fresh: Builds a new network, for buffers that no weights file holds; None: as the running configuration does.

    Example:
        >>> Restart(prior=None).exact
        True

    Source: Bourtoule et al. 2021 (exact unlearning by retraining without the data); Baradad et al. 2021 (priors from
    generic images).

    Raises:
        ValueError: At ``STARTED``, where the prior lacks a parameter or a buffer of the network or has another one.
    """

    exact = True
    prior: Prior
    seed: int = 0
    fresh: Callable[[], torch.nn.Module] | None = None

    def __call__(self, engine: Trainer) -> None:
        assert self.prior.path is not None
        load_weights(engine.network, self.prior.path)
        engine.optimizer.state.clear()
        torch.manual_seed(self.seed)
        network = unwrap(engine.network)
        held = network.state_dict()
        unsaved = [name for name, _ in network.named_buffers() if name not in held]
        if unsaved:
            values = tensors_of(self.fresh() if self.fresh is not None else build_network(self.seed))
            for name in unsaved:
                network.get_buffer(name).copy_(values[name])
        numbers = [sum(value.numel() for value in values) for values in (network.parameters(), network.buffers())]
        logger.debug("restart: all %d weights and %d values of buffers are those of %s", *numbers, self.prior.path)
        frozen = [name for name, weight in network.named_parameters() if not weight.requires_grad]
        for names, what in (
            (frozen, "frozen parameters stay as it has them"),
            (unsaved, "buffers are a new network's"),
        ):
            if names:
                logger.info("restart: %d %s: %s", len(names), what, ", ".join(names[:5]))


def prior_of(method: Sequence[Any]) -> Prior | None:
    """What a method restarts from; None: it changes the weights that the network has."""
    return next((handler.prior for handler in method if isinstance(handler, Restart)), None)


def make_prior(method: Sequence[Any]) -> None:
    """Train the prior of a method that restarts where there is none; see :meth:`Prior.make`."""
    if (prior := prior_of(method)) is not None:
        prior.make()


def forgetting(method: Sequence[Any], trainer: Trainer, record: RunRecord, forget: Sequence[Volume]) -> dict[str, Any]:
    """Whether a run forgot exactly, from what it did and read.

    Args:
        method: The handlers of the method.
        trainer: The trainer that ran.
        record: What the run opened, as its loaders reported it.
        forget: The forgotten scans; those that are no longer there cannot have been opened.

    Returns:
        ``forgetting``, ``exact`` or ``approximate``; ``not_exact_because``, what speaks against exact; ``prior``, see
        :meth:`Prior.facts`, or None where the network did not restart; ``forgotten``, name and SHA-256 of what went.
    """
    problems, prior = [], prior_of(method[:1])
    if prior is None:
        problems.append("the method does not begin with Restart: the network keeps weights that it had")
    for handler in method:
        if not getattr(handler, "exact", False) or type(handler).__module__.partition(".")[0] != "scripts":
            problems.append(f"{type(handler).__name__} is not known to read nothing but retained scans")
    for name in ("loss_function", "optimizer", "inferer"):
        part = getattr(trainer, name)
        if type(part).__module__.partition(".")[0] not in KNOWN:
            problems.append(f"{name}: {type(part).__name__} is not known to read nothing but retained scans")
    forgotten = [{"volume": volume.name, "sha256": known_sha256(volume.path)} for volume in forget]
    opened, lost = record.facts["opened"], {scan["sha256"] for scan in forgotten}
    problems += [
        f"{scan['volume']}, a forgotten scan, was opened" for scan in opened["scans"] if scan["sha256"] in lost
    ]
    facts = None if prior is None else prior.facts()
    known = None if facts is None else facts["sha256"]
    problems += [f"the weights {file['file']} were read" for file in opened["weights"] if file["sha256"] != known]
    kind = "approximate" if problems else "exact"
    return {"forgetting": kind, "not_exact_because": problems, "prior": facts, "forgotten": forgotten}
