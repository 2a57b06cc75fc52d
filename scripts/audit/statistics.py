"""How the audit states what it found: the settings of its intervals, and what was not measured and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from scripts.run.kinds import above, check_arguments, mapping_of, whole, within

NOT_MEASURED = "not measured"


class Draw(TypedDict):
    """The settings of a bootstrap: see :func:`scripts.evaluation.bootstrap.mean_with_interval`."""

    confidence: float
    samples: int
    seed: int


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
    def draw(self) -> Draw:
        """The settings of one bootstrap, to be passed on as keyword arguments."""
        return {"confidence": self.confidence, "samples": self.samples, "seed": self.seed}


def not_measured(why: str) -> dict[str, str]:
    """The entry that stands for a result that could not be had.

    >>> not_measured("no oracle weights")
    {'not measured': 'no oracle weights'}
    """
    return {NOT_MEASURED: why}


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
