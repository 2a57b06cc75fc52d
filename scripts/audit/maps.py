"""Pictures of the null-space error: where a model invents or loses what was not measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scripts.audit.hallucination import null_space_part
from scripts.data.slices import SliceDataset, prepare_batch
from scripts.data.volumes import Volume
from scripts.files import atomic_write
from scripts.fourier import center_crop
from scripts.networks.varnet import sampled_columns

SIDE, BAR, DPI = 1.9, 0.9, 150  # inches, dots an inch
PERCENTILE = 99.5


def null_space_maps(
    volumes: Sequence[Volume],
    models: Mapping[str, torch.nn.Module],
    transform: Callable[[dict], dict],
    path: str | Path,
    device: torch.device | str = "cpu",
) -> None:
    """Draw, for the middle slice of each volume, the reference and each model's signed null-space error.

    Every error map shares one symmetric scale, in fractions of the volume's maximum. Equal input gives equal bytes.

    Args:
        volumes: one row each.
        models: name -> network, one column each.
        transform: undersamples a slice, see :class:`scripts.data.Undersample`.
        path: the PNG to make.
        device: where to run the networks.
    """
    rows = [_row(volume, models, transform, device) for volume in volumes]
    limit = float(np.percentile(np.abs(np.concatenate([m.ravel() for _, maps in rows for m in maps])), PERCENTILE))
    columns = len(models) + 1
    figure = Figure(figsize=(columns * SIDE + BAR, len(rows) * SIDE + 0.35), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    drawn = None
    for index, ((target, maps), volume) in enumerate(zip(rows, volumes, strict=True)):
        axes[index, 0].imshow(target, cmap="gray", vmin=0.0)
        axes[index, 0].set_ylabel(f"scan {index + 1}, slice {volume.num_slices // 2}", fontsize=8)
        for axis, part in zip(axes[index, 1:], maps, strict=True):
            drawn = axis.imshow(part, cmap="RdBu_r", vmin=-(limit or 1.0), vmax=limit or 1.0, interpolation="nearest")
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    for axis, name in zip(axes[0], ["target", *models], strict=True):
        axis.set_title(name, fontsize=9)
    figure.subplots_adjust(left=0.04, right=1 - 0.85 / (columns * SIDE + BAR), bottom=0.02, top=0.9, wspace=0.04)
    bar = figure.colorbar(drawn, ax=list(axes.flat), fraction=0.02, pad=0.01)
    bar.set_label("null-space error\n[fraction of volume maximum]", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})


@torch.no_grad()
def _row(volume: Volume, models: Mapping[str, torch.nn.Module], transform, device) -> tuple[np.ndarray, list]:
    item = SliceDataset([volume], transform)[volume.num_slices // 2]
    inputs, label, args, _ = prepare_batch(torch.utils.data.default_collate([item]), device)
    target, mask = label["target"], sampled_columns(inputs)
    maps = []
    for network in models.values():
        image = center_crop(network.to(device).eval()(inputs, *args), volume.target_size)
        maps.append((null_space_part(image - target, mask)[0, 0] / volume.max_value).cpu().numpy())
    return target[0, 0].cpu().numpy(), maps
