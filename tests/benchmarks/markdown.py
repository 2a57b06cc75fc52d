"""What benchmarks print: Markdown tables, and a mean with its range."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean


def spread(values: Sequence[float], sign: str = "+") -> str:
    """Mean and, of several, the lowest and the highest.

    >>> spread([-0.5, 0.25]), spread([20.5], sign="")
    ('-0.12 (-0.50 to +0.25)', '20.50')
    """
    span = f" ({min(values):{sign}.2f} to {max(values):{sign}.2f})" if len(values) > 1 else ""
    return f"{mean(values):{sign}.2f}{span}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts.

    >>> print(markdown_table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    return "\n".join("| " + " | ".join(row) + " |" for row in [columns, ["---"] * len(columns), *rows])
