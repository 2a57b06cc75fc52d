"""What all figures share: colours, sizes, and files that are equal for equal input."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scripts.run.files import atomic_write

# Okabe & Ito 2008: told apart with any colour vision; further models repeat them with another marker
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C564B")
MARKERS = "osD^vPX*"
REFERENCE_COLOURS = {
    "original": "#444444",
    "network that never saw the scans": "#000000",
    "network that saw them alone": "#888888",
}
INK, FAINT = "#1a1a1a", "#d9d9d9"
DPI = 150
DETERMINISTIC = {  # metadata without dates and versions
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}


def new_figure(width: float, height: float) -> Figure:
    """A figure of that many inches, laid out without overlap, drawn without global state."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def styles(models: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Model -> (colour, marker), the same in every figure."""
    free = [model for model in models if model not in REFERENCE_COLOURS]
    found = {
        model: (COLOURS[i % len(COLOURS)], MARKERS[(i + i // len(COLOURS)) % len(MARKERS)])
        for i, model in enumerate(free)
    }
    return {**found, **{model: (colour, "s") for model, colour in REFERENCE_COLOURS.items()}}


def tidy(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Labels with units, a faint grid, no box."""
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: Path, suffixes: Sequence[str] = ()) -> None:
    """Write a figure, whole or not at all; equal figures give equal bytes.

    Args:
        figure: The figure.
        path: The file to make, .png, .svg or .pdf.
        suffixes: The formats to make in place of that of ``path``.
    """
    for suffix in suffixes or (path.suffix,):
        settings: Any = {"svg.hashsalt": "unlearning", "svg.fonttype": "none"}
        with atomic_write(path.with_suffix(suffix)) as temporary, matplotlib.rc_context(settings):
            figure.savefig(temporary, metadata=DETERMINISTIC[suffix])


def data_uri(content: bytes, kind: str) -> str:
    """A picture (png, svg+xml) as an address that holds it: a page needs no second file."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
