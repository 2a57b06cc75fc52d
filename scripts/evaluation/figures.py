"""Pictures of what unlearning did: reconstructions of each model and their errors, on common scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from scripts.evaluation.drawing import DETERMINISTIC, DPI, save_figure
from scripts.evaluation.metrics import combine, slice_sums
from scripts.evaluation.reconstruct import Scan
from scripts.evaluation.results import COHORTS
from scripts.evaluation.table import MODELS

WIDTH = 9.0  # inches: 900 px at 100 dots an inch, exceeded only where the images would be too narrow
MIN_SIDE, MAX_SIDE = 1.45, 2.0  # inches: an image is as wide as its caption at least
MARGIN, GAP, TITLE, TEXT = 0.08, 0.06, 0.36, 0.26  # inches; TITLE two lines of text, TEXT the example's name
ERROR_PERCENTILE = 98


@dataclass(frozen=True)
class Example:
    """One slice with its reconstructions.

    Attributes:
        title: Its name in the figure.
        target: The reference image, (h, w).
        max_value: The maximum of its volume.
        images: model -> reconstruction (h, w), in display order.
    """

    title: str
    target: np.ndarray
    max_value: float
    images: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, scan: Scan, position: int = 0, models: Sequence[str] = ()) -> Example:
        """The slice at a position of a scan, with the images of some models, by default of all."""
        return cls(
            title=", ".join(
                filter(
                    None,
                    [
                        scan.volume.fields.get("anatomy", ""),
                        COHORTS.get(scan.cohort, scan.cohort),
                        f"slice {scan.slices[position]}",
                    ],
                )
            ),
            target=scan.target[position],
            max_value=scan.volume.max_value,
            images={name: scan.images[name][position] for name in models or scan.images},
        )


def unlearning_panels(examples: Sequence[Example], path: str | Path) -> None:
    """Draw, for each example, the target and every model's image, and below each image its error map.

    The images of an example share one grey scale, from 0 to the largest value of its target. Its error maps
    |x - y| share another, drawn as a colour bar in fractions of the volume's maximum; it ends at the 98th
    percentile of all errors of the example. PSNR and SSIM are those of the slice alone, with the volume's
    maximum as peak. Equal input gives equal bytes; the file is written under a temporary name and renamed.

    Args:
        examples: One band of the figure each; all with the same number of models.
        path: The file to make, .png, .svg or .pdf.

    Raises:
        ValueError: no example, no model, differing numbers of models, another suffix, or an image that
            `scripts.evaluation.metrics` refuses (NaN, Inf, shape), which is named.
    """
    path = Path(path)
    if path.suffix not in DETERMINISTIC:
        raise ValueError(f"{path}: the suffix must be one of {', '.join(DETERMINISTIC)}")
    counts = {len(example.images) for example in examples}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"every example needs the same number of models, at least one, got {sorted(counts)}")
    columns = 1 + counts.pop()
    frame = 2 * MARGIN + (columns - 1) * GAP
    side = min(max((WIDTH - frame) / columns, MIN_SIDE), MAX_SIDE)
    heights = [_band_height(example, side) for example in examples]
    top = sum(heights)
    figure = Figure(figsize=(columns * side + frame, top), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for example, height in zip(examples, heights, strict=True):
        _draw_example(figure, example, top, side)
        top -= height
    save_figure(figure, path)


def batch_images(batch: Mapping) -> tuple[Sequence[None], Tensor]:
    """For MONAI's TensorBoardImageHandler: no input image (k-space is none), and the reference images (B, 1, h, w)."""
    return [None] * len(batch["target"]), batch["target"]


def output_images(output: Mapping) -> Tensor:
    """For the same handler, which scales each image to its own range: the reconstructions (B, 1, H, W)."""
    return output["pred"].detach()


def _aspect(example: Example) -> float:
    height, width = example.target.shape
    return height / width


def _band_height(example: Example, side: float) -> float:
    return TEXT + TITLE + 2 * side * _aspect(example) + GAP + 2 * MARGIN


def _draw_example(figure: Figure, example: Example, top: float, side: float) -> None:
    """The band of one example, its upper edge at `top` inches, images `side` inches wide."""
    target, peak = example.target, example.max_value
    height = side * _aspect(example)
    upper = top - TEXT - TITLE - height
    lower = upper - GAP - height
    captions = {name: _caption(example, name) for name in example.images}
    errors = {name: np.abs(image - target) / peak for name, image in example.images.items()}
    limit = float(np.percentile(np.stack(list(errors.values())), ERROR_PERCENTILE)) or 1.0
    grey: dict[str, Any] = {"cmap": "gray", "vmin": 0.0, "vmax": float(target.max())}

    _text(figure, MARGIN, top - TEXT / 2, example.title, fontsize=10, fontweight="bold", va="center")
    _panel(figure, (MARGIN, upper, side, height), target, "target", **grey)
    drawn: Any = None
    for column, name in enumerate(captions, start=1):
        left = MARGIN + column * (side + GAP)
        _panel(figure, (left, upper, side, height), example.images[name], captions[name], **grey)
        box = (left, lower, side, height)
        drawn = _panel(figure, box, errors[name], "", cmap="inferno", vmin=0.0, vmax=limit)

    bar_width = 0.12
    bar_left = MARGIN + side - bar_width
    bar = figure.add_axes(_fractions(figure, (bar_left, lower + 0.06, bar_width, height - 0.12)))
    figure.colorbar(drawn, cax=bar, extend="max")
    bar.yaxis.set_ticks_position("left")
    bar.yaxis.set_label_position("left")
    bar.locator_params(axis="y", nbins=5)
    bar.tick_params(labelsize=8, length=2)
    bar.set_ylabel("error |x − y|\n[fraction of volume maximum]", fontsize=8)


def _caption(example: Example, name: str) -> str:
    try:
        values = combine(slice_sums(example.target[None], example.images[name][None], example.max_value))
    except ValueError as error:
        raise ValueError(f"{example.title}, image of {name}: {error}") from error
    shown = MODELS.get(name, name).removeprefix("network that ")
    return f"{shown}\n{values['psnr']:.1f} dB, SSIM {values['ssim']:.3f}"


def _panel(figure: Figure, box: tuple[float, float, float, float], image: np.ndarray, title: str, **style: Any) -> Any:
    axes = figure.add_axes(_fractions(figure, box))
    axes.set_axis_off()
    axes.set_title(title, fontsize=8.5, pad=3, linespacing=1.15, parse_math=False)
    return axes.imshow(image, interpolation="nearest", aspect="auto", **style)


def _fractions(figure: Figure, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Left, bottom, width, height in inches as fractions of the figure."""
    width, height = figure.get_size_inches()
    return box[0] / width, box[1] / height, box[2] / width, box[3] / height


def _text(figure: Figure, left: float, bottom: float, text: str, **style: Any) -> None:
    width, height = figure.get_size_inches()
    figure.text(left / width, bottom / height, text, parse_math=False, **style)
