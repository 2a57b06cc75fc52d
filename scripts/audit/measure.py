"""What a measure of an audit is: what it computes, shows and declares, and which gates it allows, in one class."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from scripts.audit.statistics import NOT_MEASURED, Statistics, is_measured
from scripts.evaluation.reconstruct import Models
from scripts.evaluation.results import Results
from scripts.evaluation.table import Table, number

AUDITED, ORIGINAL, ORACLE, QUANTISED = "unlearned", "G", "oracle", "unlearned, int8"
TREATED = "treated oracle"
QUERY, CALIBRATION = "query", "calibration"


class Measure:
    """A measure: subclass it, and list it under ``measures`` in ``audit.yaml``; nothing else has to know of it.

    Attributes:
        name: Its key among the audit's measures.
        title: The heading of its table.
        gates: Regular expressions of the paths, after its name, at which gates find ``{"value", "interval"}``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    gates: ClassVar[tuple[str, ...]] = ()
    known: ClassVar[dict[str, type[Measure]]] = {}

    def __init_subclass__(cls) -> None:
        """Make the measure known to gates and reports by its name."""
        super().__init_subclass__()
        Measure.known[cls.name] = cls

    def slices(self, models: Models) -> int:
        """How many slices it will put through a network itself, training included, all models together."""
        return 0

    def measure(self, models: Models, results: Results, statistics: Statistics) -> Any:
        """Its result, a JSON document.

        Args:
            models: name -> network; they are left as they are.
            results: What the evaluation of every model found.
            statistics: The settings of the intervals.
        """
        raise NotImplementedError

    def control(self, results: Results, statistics: Statistics) -> dict | None:
        """The same with the original in place of the audited model, for the positive control; None: it takes no part.

        It is called after :meth:`measure`.
        """
        return None

    @classmethod
    def table(cls, entry: Any, share: str) -> Table:
        """The result as a table.

        Args:
            entry: What :meth:`measure` returned, measured.
            share: Of the intervals, as text.
        """
        return Table(cls.title, str(entry))


def oracle_names(models: Iterable[str]) -> list[str]:
    """The oracle and, after it, the same training with other seeds.

    >>> oracle_names(["G", "oracle", "oracle 2", "unlearned"])
    ['oracle', 'oracle 2']
    """
    return [name for name in models if name == ORACLE or name.startswith(f"{ORACLE} ")]


def references(models: Iterable[str], cohort: str = "KTA") -> list[str]:
    """The models that say what an audited one may know of a cohort, the first of them the one it is compared with.

    What is known of the forgotten kind is judged by the treated oracle, where there is one: the same unlearning, run on
    the oracle, so that what its recipe gives to any network is not taken for memory. What is kept (BTA) is judged by
    the oracles as they were trained.

    >>> references(["G", "oracle", "oracle 2", "treated oracle"]), references(["oracle", "treated oracle"], "BTA")
    (['treated oracle'], ['oracle'])
    """
    known = list(models)
    return [TREATED] if TREATED in known and cohort != "BTA" else oracle_names(known)


def audited_and_reference(models: Iterable[str]) -> list[str]:
    """The audited model and, if there is one, the reference on the forgotten kind, which is trained on alike.

    >>> audited_and_reference(["G", "oracle", "unlearned"])
    ['unlearned', 'oracle']
    """
    known = list(models)
    return [AUDITED, *references(known)[:1]]


def figure(value: Any, digits: int = 2, sign: bool = False) -> str:
    """A number as text; "not measured" for one that is missing."""
    return NOT_MEASURED if value is None or not is_measured(value) else number(value, digits, sign)


def with_interval(entry: Any, digits: int = 2, sign: bool = False) -> str:
    """A value with its interval as text."""
    if entry is None or not is_measured(entry) or entry["value"] is None:
        return NOT_MEASURED
    text = number(entry["value"], digits, sign)
    if entry["interval"] is None:
        return text
    return f"{text} [{', '.join(number(bound, digits, sign) for bound in entry['interval'])}]"
