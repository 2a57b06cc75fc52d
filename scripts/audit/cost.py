"""Cost: passes, time and data read of the unlearning, and their share of the original's training."""

from __future__ import annotations

from collections.abc import Mapping

from scripts.audit.inputs import COUNTS, read_record, training_of
from scripts.audit.measure import AUDITED, ORIGINAL, Measure
from scripts.audit.provenance import AuditedFiles
from scripts.audit.statistics import NOT_MEASURED, Statistics, is_measured, not_measured
from scripts.evaluation.reconstruct import Models
from scripts.evaluation.results import Results
from scripts.evaluation.table import ABSENT, Table, percent


def cost(record: Mapping | None, training: Mapping | None = None) -> dict:
    """Passes, time and data read of the unlearning run, and their share of training's.

    Args:
        record: The run record of ``unlearn``; None: not measured.
        training: The run record of the original's training; None: no shares.

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


class Cost(Measure):
    """Cost of the unlearning, from its record and that of the original's training, see :func:`cost`.

    Args:
        files: The audit's weights and records.
    """

    name = "cost"
    title = "Cost"

    def __init__(self, files: AuditedFiles) -> None:
        self.record = read_record(files.record, files.weights[AUDITED])
        self.training = training_of(files.weights[ORIGINAL], files.training)

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        """See :func:`cost`."""
        return cost(self.record, self.training)

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row a count."""
        shares = entry["share_of_training"] if is_measured(entry["share_of_training"]) else {}
        rows = [
            [heading, f"{entry[name]:g}", percent(shares[name]) if name in shares else NOT_MEASURED]
            for name, heading in COUNTS.items()
        ]
        rows += [[f"slices read: {role}", str(count), ABSENT] for role, count in entry["slices_read"].items()]
        return Table(
            cls.title, "Of unlearning, from its run record.", ["count", "unlearning", "share of training"], rows
        )
