"""Pictures of what unlearning did: reconstructions of each model and their errors, on common scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import SubFigure
from torch import Tensor

from scripts.evaluation.drawing import DETERMINISTIC, new_figure, save_figure
from scripts.evaluation.metrics import combine, slice_sums
from scripts.evaluation.reconstruct import Scan
from scripts.evaluation.results import COHORTS
from scripts.evaluation.table import MODELS

WIDTH = 9.0  # inches, exceeded only where the images would be too narrow
MIN_SIDE, MAX_SIDE = 1.45, 2.2  # inches: an image is as wide as its caption at least
TEXT = 0.75  # inches: the example's name and a caption of two lines
ERROR_PERCENTILE = 98


@dataclass(frozen=True)
class Example:
    """One slice with its reconstructions."""

    title: str
    target: np.ndarray  # the reference image, (h, w)
    max_value: float  # of its volume
    images: Mapping[str, np.ndarray]  # model -> reconstruction (h, w), in display order

    @classmethod
    def of(cls, scan: Scan, position: int = 0, models: Sequence[str] = (), which: str = "") -> Example:
        """The slice at a position of a scan, with the images of some models, by default of all.

        ``which`` tells which scan of its cohort it is, e.g. ``scan 1 of 12``: a picture travels further than the data,
        so the file is not named.
        """
        what = (scan.volume.fields.get("anatomy", ""), COHORTS.get(scan.cohort, scan.cohort), which)
        return cls(
            title=", ".join([*filter(None, what), f"slice {scan.slices[position] + 1} of {scan.volume.num_slices}"]),
            target=scan.target[position],
            max_value=scan.volume.max_value,
            images={name: scan.images[name][position] for name in models or scan.images},
        )


def unlearning_panels(examples: Sequence[Example], path: str | Path) -> None:
    """Draw, for each example, the target and every model's image, and below each image its error map.

    The images of an example share one grey scale, from 0 to the largest value of its target. Its error maps
    |x - y| share another, drawn as a colour bar in fractions of the volume's maximum; it ends at the 98th
    percentile of all errors of the example. PSNR and SSIM are those of the slice alone, with the volume's
    maximum as peak.

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
    side = min(max(WIDTH / columns, MIN_SIDE), MAX_SIDE)
    heights = [TEXT + 2 * side * example.target.shape[0] / example.target.shape[1] for example in examples]
    captions = [{name: _caption(example, name) for name in example.images} for example in examples]
    figure = new_figure(columns * side, sum(heights))
    bands = figure.subfigures(len(examples), 1, squeeze=False, height_ratios=heights)[:, 0]
    for band, example, texts in zip(bands, examples, captions, strict=True):
        _draw_example(band, example, texts)
    save_figure(figure, path)


def batch_images(batch: Mapping) -> tuple[Sequence[None], Tensor]:
    """For MONAI's TensorBoardImageHandler: no input image (k-space is none), and the reference images (B, 1, h, w)."""
    return [None] * len(batch["target"]), batch["target"]


def output_images(output: Mapping) -> Tensor:
    """For the same handler, which scales each image to its own range: the reconstructions (B, 1, H, W)."""
    return output["pred"].detach()


def _draw_example(band: SubFigure, example: Example, captions: Mapping[str, str]) -> None:
    errors = {name: np.abs(image - example.target) / example.max_value for name, image in example.images.items()}
    limit = float(np.percentile(np.stack(list(errors.values())), ERROR_PERCENTILE)) or 1.0
    grid = band.add_gridspec(2, 1 + len(errors))
    style: Any = {"fontsize": 10, "fontweight": "bold", "parse_math": False}
    band.suptitle(example.title, x=0.01, ha="left", **style)

    def panel(row: int, column: int, image: np.ndarray, title: str, cmap: str, top: float) -> Any:
        axes = band.add_subplot(grid[row, column])
        axes.set_axis_off()
        axes.set_title(title, fontsize=8.5, pad=3, linespacing=1.15, parse_math=False)
        return axes.imshow(image, interpolation="nearest", cmap=cmap, vmin=0.0, vmax=top)

    top = float(example.target.max())
    panel(0, 0, example.target, "target", "gray", top)
    drawn: Any = None
    for column, name in enumerate(errors, start=1):
        panel(0, column, example.images[name], captions[name], "gray", top)
        drawn = panel(1, column, errors[name], "", "inferno", limit)
    free = band.add_subplot(grid[1, 0], box_aspect=example.target.shape[0] / example.target.shape[1])
    free.set_axis_off()
    bar = band.colorbar(drawn, cax=free.inset_axes((0.92, 0.02, 0.08, 0.96)), extend="max")
    bar.ax.yaxis.set_ticks_position("left")
    bar.ax.yaxis.set_label_position("left")
    bar.ax.locator_params(axis="y", nbins=5)
    bar.ax.tick_params(labelsize=8, length=2)
    bar.ax.set_ylabel("error |x − y|\n[fraction of\nvolume maximum]", fontsize=8)


def _caption(example: Example, name: str) -> str:
    try:
        values = combine(slice_sums(example.target[None], example.images[name][None], example.max_value))
    except ValueError as error:
        raise ValueError(f"{example.title}, image of {name}: {error}") from error
    shown = MODELS.get(name, name).removeprefix("network that ")
    return f"{shown}\n{values['psnr']:.1f} dB, SSIM {values['ssim']:.3f}"
