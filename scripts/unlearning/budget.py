"""How many steps a run may take, when its cost is stated as a share of training's."""

from __future__ import annotations

import json
from pathlib import Path


def training_passes(weights: str | Path, slices: int, epochs: int) -> int:
    """Backward passes, counted in slices, that the training of some weights took.

    Args:
        weights: The file of the weights. The record beside it (``.json``) is believed: that of ``train``, or of an
            earlier ``unlearn``, which states the training passes that it went by.
        slices: The number of training slices, where there is no such record.
        epochs: The number of epochs of training, where there is no such record.

    Raises:
        ValueError: The record does not say what its training cost.
    """
    record = Path(weights).with_suffix(".json")
    if not record.is_file():
        return slices * epochs
    try:
        facts = json.loads(record.read_text(encoding="utf-8"))
        return int(facts.get("training_passes") or facts["cost"]["backward_slices"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{record}: 'cost', 'backward_slices': expected the passes of a training run, found "
                         f"{type(error).__name__}: {error}") from error  # fmt: skip


def epoch_length(budget: float | None, passes: int, slices_per_step: int, epochs: int, otherwise: int) -> int:
    """Steps of each of the ``epochs`` equal parts of a run that spends a budget, at least one.

    Args:
        budget: The share of training's backward passes that may be spent, above 0; None: the run is stated in epochs.
        passes: The backward passes of training, in slices.
        slices_per_step: The slices that go backward in a step, those of teachers included.
        epochs: The number of parts.
        otherwise: The steps of an epoch where there is no budget.

    Raises:
        ValueError: The budget is not above 0.

    Example:
        >>> epoch_length(0.1, passes=3780, slices_per_step=2, epochs=4, otherwise=18)
        47
    """
    if budget is None:
        return otherwise
    if not budget > 0:
        raise ValueError(f"unlearning: 'budget': expected a share of training's passes above 0, found {budget}")
    return max(1, int(budget * passes / (slices_per_step * epochs)))
