"""What an audit is given: weights, cohorts and run records; what is wrong with them is found before work starts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.audit.measure import (
    AUDITED,
    NOT_MEASURED,
    ORACLE,
    ORIGINAL,
    TREATED,
    Given,
    Measure,
    Statistics,
    is_measured,
    not_measured,
)
from scripts.evaluation.reconstruct import Models
from scripts.evaluation.results import Results
from scripts.evaluation.table import ABSENT, Table, percent
from scripts.run.files import file_sha256

COUNTS = {
    "steps": "steps",
    "forward_slices": "slices forward",
    "backward_slices": "slices backward",
    "seconds": "seconds",
}


def audited_weights(
    original: str | Path,
    unlearned: str | Path,
    oracle: str | Path | None = None,
    oracle_seeds: Sequence[str | Path] = (),
    treated: str | Path | None = None,
) -> dict[str, str]:
    """Name -> file of every model of the audit, in the order of its tables.

    Args:
        original: Weights before unlearning, G.
        unlearned: The weights to audit.
        oracle: Weights that never saw the forget set; None or False, here and below: none.
        oracle_seeds: The same training as the oracle's with other seeds.
        treated: What the audited run's unlearning makes of the oracle, see :mod:`scripts.audit.treated`.

    Raises:
        FileNotFoundError: naming the setting and the file.
        ValueError: further oracles without an oracle.
    """
    for setting, needing in (("oracle_seeds", oracle_seeds), ("treated_oracle_weights", treated)):
        if needing and not oracle:
            raise ValueError(f"audit: {setting!r}: expected 'oracle_weights' beside, found none")
    named: dict[str, tuple[str, str | Path | None]] = {
        ORIGINAL: ("weights", original),
        ORACLE: ("oracle_weights", oracle),
        **{f"{ORACLE} {index}": ("oracle_seeds", path) for index, path in enumerate(oracle_seeds, start=2)},
        TREATED: ("treated_oracle_weights", treated),
        AUDITED: ("unlearned_weights", unlearned),
    }
    for name, (setting, path) in named.items():
        if path and not Path(path).is_file():
            hint = "; run the verb unlearn first, or name the weights to audit" if name == AUDITED else ""
            raise FileNotFoundError(f"audit: {setting!r}: no such file: {path}{hint}")
    return {name: str(path) for name, (_, path) in named.items() if path}


def check_cohorts(cohorts: Mapping[str, Sequence]) -> None:
    """Refuse data on which there is nothing to audit.

    Args:
        cohorts: Cohort name -> volumes, see :meth:`scripts.data.Cohorts.evaluation`.

    Raises:
        ValueError: no forget training volumes, or no retain test volumes.
    """
    if not cohorts.get("BTA") or not cohorts.get("UA"):
        raise ValueError(
            "audit: expected a forget request that selects volumes of 'training' and leaves some in 'test'; "
            f"found the cohorts {', '.join(cohorts)}"
        )


def record_beside(weights: str | Path) -> str | None:
    """The run record that train and unlearn put beside their weights (``.json`` for ``.pt``), or None."""
    record = Path(weights).with_suffix(".json")
    return str(record) if record.is_file() else None


def read_record(path: str | Path | None, weights: str | Path) -> dict | None:
    """A run record, checked to be that of some weights; None where there is no record.

    Raises:
        FileNotFoundError, ValueError: no such file, no record, or a record of other weights.
    """
    if path is None:
        return None
    if not Path(path).is_file():
        raise FileNotFoundError(f"audit: no such run record: {path}")
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        stated, _, _ = record["weights_out"]["sha256"], record["cost"], record["data"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected the record of a run with weights_out, cost and data, found {error!r}"
        ) from error
    if stated != file_sha256(weights):
        raise ValueError(f"{path}: 'weights_out': the record is of other weights than {weights} (SHA-256 differs)")
    return record


def training_of(weights: str | Path, named: str | None = None) -> dict | None:
    """The record of the training that some weights go back to, or None.

    Args:
        weights: The file.
        named: The record's file, where a ledger names it; None: the record beside the weights, if it is one of
            ``train``. Beside weights that were unlearned before lies the record of that unlearning.
    """
    if named is not None:
        return dict(json.loads(Path(named).read_text(encoding="utf-8")))
    record = read_record(record_beside(weights), weights)
    return record if record is not None and record.get("verb") == "train" else None


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
    """Cost of the unlearning, from its record and that of the original's training, see :func:`cost`."""

    name = "cost"
    title = "Cost"

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.record = read_record(given.record, given.weights[AUDITED])
        self.training = training_of(given.weights[ORIGINAL], given.training)

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
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
