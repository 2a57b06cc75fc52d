"""What an audit does beyond one evaluation of every model, and how much of it there may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from scripts.audit.statistics import Statistics
from scripts.evaluation.metrics import METRICS
from scripts.evaluation.reconstruct import Models
from scripts.evaluation.results import Results, VolumeResult

AUDITED, ORIGINAL, ORACLE, QUANTISED = "unlearned", "G", "oracle", "unlearned, int8"
TREATED = "treated oracle"
QUERY, CALIBRATION = "query", "calibration"


Observed = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Step or acquisition -> model -> volume -> metric -> value."""


class Experiment(Protocol):
    """A measure that puts slices through networks itself.

    Attributes:
        name: Its key among the audit's measures.
        seen: What it found of each volume, from which its result is computed.
    """

    name: str

    @property
    def seen(self) -> Observed: ...

    def settings(self) -> dict[str, Any]:
        """Everything about it that could be tuned after the fact, as JSON content; it is declared before the run."""
        ...

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


def by_volume(results: Iterable[VolumeResult]) -> dict[str, dict[str, dict[str, float]]]:
    """Model -> volume -> metric -> value."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for one in results:
        table.setdefault(one.model, {})[one.volume] = {metric: one.value(metric) for metric in METRICS}
    return table


def plain_settings(component: object) -> dict[str, Any]:
    """The kind of a component and those of its settings that are numbers or text.

    >>> from scripts.data import RandomMask
    >>> plain_settings(RandomMask(acceleration=4, center_fraction=0.08))
    {'kind': 'RandomMask', 'acceleration': 4, 'center_fraction': 0.08}
    """
    own = {key: value for key, value in vars(component).items() if not key.startswith("_") and key != "training"}
    plain = {key: value for key, value in own.items() if isinstance(value, (bool, int, float, str))}
    return {"kind": type(component).__name__, **plain}


def measure_settings(
    experiments: Iterable[Experiment], evaluation: Callable[[dict], dict]
) -> dict[str, dict[str, Any]]:
    """What is declared of the measures: of the evaluation its mask and the mask's seed, of each experiment all."""
    mask = getattr(evaluation, "mask", None)
    masks = {} if mask is None else {"mask": plain_settings(mask)}
    return {"evaluation": {**plain_settings(evaluation), **masks}, **{one.name: one.settings() for one in experiments}}


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
