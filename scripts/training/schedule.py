"""What a training is called and how long it lasts."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.data.volumes import Volume


def model_name(oracle: bool, forget_only: bool, share: float = 1.0) -> str:
    """Name of the weights: ``oracle`` (trained without the forget set), ``forget_only`` or ``original``.

    Weights that are trained on a share of the patients below 1 are a ``reference``.
    """
    if share < 1:
        return "reference"
    return "oracle" if oracle else "forget_only" if forget_only else "original"


def steps_per_epoch(volumes: Sequence[Volume], batch_size: int) -> int:
    """Steps in which every slice of some volumes is read once, the last batch possibly smaller.

    The training data of the original also set the length of the oracle's epochs, so that both are trained equally long.
    """
    return -(-sum(volume.num_slices for volume in volumes) // batch_size)
