"""Tables of results, as Markdown and as JSON, and ratios of times measured in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import log
from statistics import median

MISSING = "–"


@dataclass
class Table:
    """A titled table; cells are text.

    Example:
        >>> print(Table("Times", ["pass", "ms"], [["forward", "3"]], notes=["one thread"]).markdown())
        ### Times
        <BLANKLINE>
        | pass | ms |
        | --- | --- |
        | forward | 3 |
        <BLANKLINE>
        one thread
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r}: expected {len(self.columns)} cells, found {list(row)}")

    def markdown(self) -> str:
        """Heading, table, notes."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return "\n\n".join([f"### {self.title}", body, *self.notes])

    def json(self) -> dict:
        """All fields."""
        return asdict(self)


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """How many times faster we are: median of the ratios of neighbouring repeats, with their range.

    Example:
        >>> ratio([2.0, 3.0, 4.0], [1.0, 1.0, 1.0])
        '3.00 [2.00, 4.00]'
    """
    ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
    return f"{median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def milliseconds(seconds: Sequence[float]) -> str:
    """Median of some durations.

    Example:
        >>> milliseconds([0.0011, 0.002, 0.5]), milliseconds([1.5])
        ('2.0', '1500')
    """
    value = 1e3 * median(seconds)
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def growth(x: Sequence[float], y: Sequence[float]) -> float:
    """Exponent of the growth between the last two points: 1 is linear, 2 quadratic.

    Example:
        >>> round(growth([1, 2, 4], [5.0, 6.0, 12.0]), 2)
        1.0
    """
    return log(y[-1] / y[-2]) / log(x[-1] / x[-2])
