"""What unlearning cost, beside training, from the records of both runs."""

from __future__ import annotations

from collections.abc import Mapping

from scripts.audit.not_measured import not_measured

COUNTS = ("steps", "forward_slices", "backward_slices", "seconds")


def cost(record: Mapping | None, training: Mapping | None = None) -> dict:
    """Passes, time and data read of the unlearning run, and their share of training's.

    Args:
        record: the run record of ``unlearn``; None: not measured.
        training: the run record of the original's training; None: no shares.

    Returns:
        The counts of :data:`COUNTS` and the slices read of each role, and under ``share_of_training`` each count
        over training's.

    >>> run = {"cost": {"steps": 5, "forward_slices": 10, "backward_slices": 10, "seconds": 2.0},
    ...        "data": {"retain": {"slices": 4}}}
    >>> cost(run, {"cost": {"steps": 50, "forward_slices": 50, "backward_slices": 50, "seconds": 8.0}})["slices_read"]
    {'retain': 4}
    """
    if record is None:
        return not_measured("no run record of the unlearning")
    counts = {name: record["cost"][name] for name in COUNTS}
    shares: dict = not_measured("no run record of the original's training")
    if training is not None:
        shares = {name: counts[name] / training["cost"][name] for name in COUNTS if training["cost"][name]}
    slices = {role: entry["slices"] for role, entry in record["data"].items()}
    return {**counts, "slices_read": slices, "share_of_training": shares}
