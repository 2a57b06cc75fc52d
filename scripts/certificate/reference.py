"""The project's own settings of the measures, by which a verdict is believed, whatever else was declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.allowed import build_allowed
from scripts.audit.acquisitions import other_masks
from scripts.audit.experiment import plain_settings
from scripts.audit.statistics import Statistics
from scripts.data.masks import ColumnMask, EquispacedFractionMask, EquispacedMask, RandomMask

MASKS = {f"scripts.data.{mask.__name__}": mask for mask in (RandomMask, EquispacedMask, EquispacedFractionMask)}
EVALUATION_SEED = 0  # of the masks, as in audit.yaml
LEARNING_RATE = 1e-3  # of further training: a lower one brings nothing back
STATISTICS = Statistics()


def mask_of(settings: Mapping[str, Any]) -> ColumnMask:
    """The mask of an audit, from its configuration.

    Raises:
        ValueError: none of the project's masks.
    """
    return build_allowed(settings, MASKS, "certificate: mask")


def weaknesses(declared: Mapping[str, Mapping[str, Any]], settings: Any) -> dict[str, str]:
    """:func:`weakened`, by the configuration of the audit's mask; one that is not the project's counts as weak."""
    try:
        return weakened(declared, mask_of(settings))
    except ValueError as error:
        return {"evaluation": str(error)}


def weakened(declared: Mapping[str, Mapping[str, Any]], mask: ColumnMask) -> dict[str, str]:
    """The measures that can reject a model but not accept one, since they were declared with settings that hide much.

    Args:
        declared: The declared settings, see :func:`scripts.audit.experiment.measure_settings`.
        mask: The mask of the audit.

    Returns:
        Measure -> what is wrong; ``evaluation`` stands for all.
    """
    found = {}
    own = plain_settings(mask)
    if declared["evaluation"].get("mask") != own or declared["evaluation"].get("seed") != EVALUATION_SEED:
        found["evaluation"] = f"expected the audit's mask {own} from seed {EVALUATION_SEED}"
    for name, anneal in (("relearning", False), ("resurfacing", True)):
        training = declared[name]["training"]
        if not training["learning_rate"] >= LEARNING_RATE or training["anneal"] is not anneal:
            found[name] = f"expected a learning rate of {LEARNING_RATE} or more, anneal {anneal}"
        elif training["mask"] != own:
            found[name] = f"expected the audit's mask {own}"
    others = {name: plain_settings(other) for name, other in other_masks(mask).items()}
    if any(declared["acquisitions"]["masks"].get(name) != other for name, other in others.items()):
        found["acquisitions"] = f"expected the masks {', '.join(others)} among the others"
    return found
