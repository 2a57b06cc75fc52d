"""What a measure of an audit is: what it computes, shows and declares, and which gates it allows, in one class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from ignite.engine import Engine

from scripts.data.volumes import Volume
from scripts.evaluation.reconstruct import Models, spread
from scripts.evaluation.results import Results
from scripts.evaluation.table import Table, number
from scripts.kspace.masks import ColumnMask
from scripts.run.kinds import above, check_arguments, mapping_of, whole, within

AUDITED, ORIGINAL, ORACLE, QUANTISED = "unlearned", "G", "oracle", "unlearned, int8"
TREATED = "treated oracle"
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Statistics:
    """How intervals are made and what counts as equivalent.

    Attributes:
        confidence: Share of the bootstrap intervals; at 0.9 each limit of a gate is a one-sided test at 5 %.
        samples: Number of bootstrap samples.
        seed: The seed of the bootstrap.
        equivalence: cohort -> margin in dB of the equivalence test on PSNR.

    Raises:
        ValueError: a setting out of range, which is named.
    """

    confidence: Annotated[float, within(0, 1)] = 0.9
    samples: Annotated[int, whole(100)] = 2000
    seed: int = 0
    equivalence: Annotated[Mapping[str, float], mapping_of(above(0))] = field(
        default_factory=lambda: {"BTA": 0.1, "KTA": 0.5, "UA": 0.5}
    )

    def __post_init__(self) -> None:
        check_arguments(self, vars(self))

    @property
    def draw(self) -> dict[str, Any]:
        """The settings of one bootstrap, to be passed on as keyword arguments."""
        return {"confidence": self.confidence, "samples": self.samples, "seed": self.seed}


@dataclass(frozen=True)
class Given:
    """What the measures of an audit are given; each takes what it needs.

    Attributes:
        cohorts: cohort -> volumes: BTA, KTA and UA.
        network: Gives the architecture; it is left as it is.
        mask: The undersampling pattern.
        loss_function: J, see :class:`scripts.training.ReconstructionLoss`.
        weights: model -> file, at least ``G`` and ``unlearned``.
        datalist: The datalist, whose hash must be the run's.
        record: The record of the unlearning run; None: weights that no run of ``unlearn`` made.
        training: The record of the training that the original goes back to; None: the one beside the original.
        ledger: The ledger of erased scans; None or False: none.
        retain: Training volumes that stay.
        forget: Training volumes that were forgotten.
        earlier: Request -> the scans that it erased before this one, as far as the datalist still names them.
        transform: Undersamples a slice, with the same columns each time.
        device: Where to run the networks.
        batch_size: Slices of one step of training.
        num_workers: Processes that read the slices.
        seed: Fixes the order of the slices of training and their masks.
        limit: The most slices that a measure may put through a network, training included.
    """

    cohorts: Mapping[str, Sequence[Volume]]
    network: torch.nn.Module
    mask: ColumnMask
    loss_function: torch.nn.Module
    weights: Mapping[str, str] = field(default_factory=dict)
    datalist: str = ""
    record: str | None = None
    training: str | None = None
    ledger: str | bool | None = None
    retain: Sequence[Volume] = ()
    forget: Sequence[Volume] = ()
    earlier: Mapping[str, Sequence[Volume]] = field(default_factory=dict)
    transform: Callable[[dict], dict] = dict
    device: torch.device | str = "cpu"
    batch_size: int = 1
    num_workers: int = 0
    seed: int = 0
    limit: int = 4000


class Measure:
    """A measure: subclass it, and name it under ``measures`` in ``audit.yaml``; nothing else has to know of it.

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
        if "name" in cls.__dict__:
            Measure.known[cls.name] = cls

    def __init__(self, given: Given) -> None:
        self.given = given

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator that runs every model on every cohort."""

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


class Sampled(Measure):
    """A measure that puts some slices of some volumes through some networks, as many as the limit allows.

    Attributes:
        turns: How often each slice goes through each network.
        groups: name -> volumes, which get equal shares.
    """

    turns = 1
    groups: Mapping[str, Sequence[Volume]]

    def compared(self, models: Models) -> Models:
        """The networks; none where the measure cannot be taken."""
        raise NotImplementedError

    def chosen(self, models: Models) -> dict[str, list[tuple[Volume, int]]]:
        """Group -> slices."""
        shares = max(len(self.compared(models)) * len(self.groups) * self.turns, 1)
        return {name: spread(volumes, max(self.given.limit // shares, 1)) for name, volumes in self.groups.items()}

    def slices(self, models: Models) -> int:
        return sum(map(len, self.chosen(models).values())) * self.turns * len(self.compared(models))


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
    return [AUDITED, *references(models)[:1]]


def not_measured(why: str) -> dict[str, str]:
    """The entry that stands for a result that could not be had."""
    return {NOT_MEASURED: why}


NO_ORACLE = not_measured("no oracle weights")


def is_measured(entry: Any) -> bool:
    """Whether an entry holds a result.

    >>> is_measured({"value": 1.0}), is_measured(not_measured("no oracle"))
    (True, False)
    """
    return not (isinstance(entry, Mapping) and NOT_MEASURED in entry)


def rejecting(entry: Mapping[str, Any], why: str | None) -> dict[str, Any]:
    """An entry that can reject a model but not accept one, where there is a reason; else the entry as it is.

    >>> rejecting({"value": 0.1}, "60 steps")
    {'value': 0.1, 'cannot_accept': '60 steps'}
    """
    return dict(entry) if why is None else {**entry, "cannot_accept": why}


def highest(found: Mapping[str, Mapping[str, Any]], named: str) -> dict:
    """The entry with the highest value, and under ``named`` its name.

    >>> highest({"a": {"value": 1.0}, "b": {"value": 2.0}}, "mask")
    {'value': 2.0, 'mask': 'b'}
    """
    name = max(found, key=lambda one: found[one]["value"])
    return {**found[name], named: name}


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
