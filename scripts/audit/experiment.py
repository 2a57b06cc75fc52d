"""What an audit does beyond one evaluation of every model, and how much of it there may be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from scripts.audit.statistics import Statistics
from scripts.evaluation.reconstruct import Models
from scripts.evaluation.results import Results

AUDITED, ORIGINAL, ORACLE, QUANTISED = "unlearned", "G", "oracle", "unlearned, int8"
QUERY, CALIBRATION = "query", "calibration"


class Experiment(Protocol):
    """A measure that puts slices through networks itself.

    Attributes:
        name: Its key among the audit's measures.
    """

    name: str

    def slices(self, models: Models) -> int:
        """How many slices it will put through a network, training included, all models together."""
        ...

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        """Its result, a JSON document in which gates find ``{"value", "interval"}`` by a path.

        Args:
            models: name -> network; they are left as they are.
            results: What the evaluation of every model found.
            statistics: The settings of the intervals.
        """
        ...


def audited_and_oracle(models: Iterable[str]) -> list[str]:
    """The audited model and, if there is one, the oracle, which is treated alike.

    >>> audited_and_oracle(["G", "oracle", "unlearned"])
    ['unlearned', 'oracle']
    """
    known = set(models)
    return [name for name in (AUDITED, ORACLE) if name in known]


def oracle_names(models: Iterable[str]) -> list[str]:
    """The oracle and, after it, the same training with other seeds.

    >>> oracle_names(["G", "oracle", "oracle 2", "unlearned"])
    ['oracle', 'oracle 2']
    """
    return [name for name in models if name == ORACLE or name.startswith(f"{ORACLE} ")]
