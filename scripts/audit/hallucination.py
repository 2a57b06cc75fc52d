"""Null-space error: the part of an error that the measurement could not have corrected, as a number and as a map."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from monai.utils import CommonKeys as Keys
from torch import Tensor

from scripts.audit.measure import (
    AUDITED,
    NO_ORACLE,
    ORACLE,
    ORIGINAL,
    QUANTISED,
    Given,
    Measure,
    Statistics,
    not_measured,
    with_interval,
)
from scripts.evaluation.bootstrap import mean_with_interval, ratio_with_interval
from scripts.evaluation.drawing import DPI, save_figure
from scripts.evaluation.reconstruct import Models, Scan
from scripts.evaluation.results import Results
from scripts.evaluation.table import Table, number
from scripts.kspace.fourier import crop_like
from scripts.networks.varnet import sampled_columns

SIDE, BAR = 1.9, 0.9  # inches
PERCENTILE = 99.5


def null_space_part(error: Tensor, mask: Tensor) -> Tensor:
    """Part of an error image whose k-space columns were not measured.

    The image is placed in the middle of the measured field of view, so that its columns are those of the mask.
    Networks here return magnitude images, so the error is that of the magnitude: an approximation to the
    null-space component of the complex coil images, for which no reference is stored.

    Args:
        error: Reconstruction minus reference, (B, 1, h, w) real.
        mask: Measured columns, (B, 1, 1, W, 1) bool, w <= W.

    Returns:
        (B, 1, h, w) float32: the same image without what lies in measured columns.

    Source: Bhadra et al., On Hallucinations in Tomographic Image Reconstruction, IEEE Trans. Med. Imaging 40
    (2021), eq. 12, for a Cartesian mask that varies along W alone.

    >>> error = torch.ones(1, 1, 4, 4)  # lies in the central column alone
    >>> centre = torch.tensor([False, False, True, False]).reshape(1, 1, 1, 4, 1)
    >>> float(null_space_part(error, centre).abs().max())
    0.0
    """
    width, full = error.shape[-1], mask.shape[-2]
    left = (full - width) // 2
    padded = torch.nn.functional.pad(error.float(), (left, full - width - left))
    measured = torch.fft.ifftshift(mask[..., 0], dim=[-1])  # rows of the image need no shift: it only turns phases
    part = torch.fft.ifft(torch.fft.fft(padded) * ~measured).real
    return crop_like(part, error)


def null_space_error(target: Tensor, prediction: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Squared sums of each slice, to be added over a volume and divided.

    Args:
        target: (B, 1, h, w) real.
        prediction: (B, 1, H, W) real, centre-cropped to the target.
        mask: Measured columns, (B, 1, 1, W, 1) bool.

    Returns:
        ``null``: ‖null-space part of the error‖², ``error``: ‖error‖², ``target``: ‖target‖², each (B,) float64.
        ``null / target`` is the null-space NMSE, ``null / error`` its share.
    """
    error = crop_like(prediction, target) - target
    parts = {"null": null_space_part(error, mask), "error": error, "target": target}
    return {name: part.double().square().flatten(1).sum(1) for name, part in parts.items()}


def null_space_maps(scans: Sequence[Scan], path: str | Path) -> None:
    """Draw, for the first slice of each scan, the reference and each model's signed null-space error.

    Every error map shares one symmetric scale, in fractions of the volume's maximum. Equal input gives equal bytes.

    Args:
        scans: One row each, with one column for each model.
        path: The PNG to make.
    """
    maps = [[_map(scan, model) for model in scan.images] for scan in scans]
    limit = float(np.percentile(np.abs(np.concatenate([m.ravel() for row in maps for m in row])), PERCENTILE)) or 1.0
    models = list(scans[0].images)
    columns = len(models) + 1
    figure = Figure(figsize=(columns * SIDE + BAR, len(scans) * SIDE + 0.35), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(scans), columns, squeeze=False)
    drawn: Any = None
    for index, scan in enumerate(scans):
        axes[index, 0].imshow(scan.target[0], cmap="gray", vmin=0.0)
        axes[index, 0].set_ylabel(f"scan {index + 1}, slice {scan.slices[0]}", fontsize=8)
        for axis, part in zip(axes[index, 1:], maps[index], strict=True):
            drawn = axis.imshow(part, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    for axis, name in zip(axes[0], ["target", *models], strict=True):
        axis.set_title(name, fontsize=9)
    figure.subplots_adjust(left=0.04, right=1 - 0.85 / (columns * SIDE + BAR), bottom=0.02, top=0.9, wspace=0.04)
    bar = figure.colorbar(drawn, ax=list(axes.flat), fraction=0.02, pad=0.01)
    bar.set_label("null-space error\n[fraction of volume maximum]", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    save_figure(figure, Path(path))


def _map(scan: Scan, model: str) -> np.ndarray:
    """(h, w) the null-space error of a model on the first slice, in fractions of the volume's maximum."""
    error = torch.from_numpy(scan.images[model][:1] - scan.target[:1])[None]
    mask = torch.from_numpy(scan.masks[:1])[:, None, None, :, None]
    return (null_space_part(error, mask)[0, 0] / scan.volume.max_value).numpy()


def hallucination(
    sums: Mapping[str, Mapping[str, Mapping[str, float]]], patients: Mapping[str, str], statistics: Statistics
) -> dict:
    """Null-space NMSE of each model on the retain test set, its gap to original and oracle, and the enhancement.

    ``enhancement`` is the audited model's null-space error over the original's: below 1 the retained kind gained from
    forgetting (the claim of Xue et al., Erase to Enhance, MIDL 2024).

    Args:
        sums: model -> volume -> the sums of :func:`null_space_error` over its slices.
        patients: volume -> patient.
        statistics: The settings of the intervals.
    """
    if not sums[AUDITED]:
        return not_measured("no volumes in BTA")
    values = {model: np.array([s["null"] / s["target"] for s in rows.values()]) for model, rows in sums.items()}
    names = [patients[volume] for volume in sums[AUDITED]]
    table: dict = {
        "models": {
            model: {
                "null_space_nmse": float(values[model].mean()),
                "share_of_error": float(np.mean([s["null"] / s["error"] for s in rows.values() if s["error"]])),
            }
            for model, rows in sums.items()
        }
    }
    pair = (values[AUDITED], values[ORIGINAL])
    table["enhancement"] = ratio_with_interval(*pair, names, **statistics.draw)
    for name, reference in (("original_gap", ORIGINAL), ("oracle_gap", ORACLE)):
        table[name] = NO_ORACLE
        if reference in values:
            table[name] = mean_with_interval(values[AUDITED] - values[reference], names, **statistics.draw)
    return table


class Hallucination(Measure):
    """Null-space error on the whole retain test set, summed while the evaluator runs each model."""

    name = "hallucination"
    title = "Hallucination (null-space error, retain test set)"
    gates = (r"(oracle_gap|original_gap|enhancement)",)

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.patients = {volume.name: volume.patient_id for volume in given.cohorts.get("BTA", [])}
        self.sums: dict[Any, dict[str, dict[str, float]]] = {}  # network -> volume -> sums

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)

    def _start(self, engine: Engine) -> None:
        self.sums[engine.network] = defaultdict(lambda: defaultdict(float))  # type: ignore[attr-defined]

    def _add(self, engine: Engine) -> None:
        output: Any = engine.state.output
        label, own = output[Keys.LABEL], self.sums[engine.network]  # type: ignore[attr-defined]
        parts = null_space_error(label["target"], output[Keys.PRED].detach(), sampled_columns(output[Keys.IMAGE]))
        for index, volume in enumerate(label["volume"]):
            if volume in self.patients:
                for name, values in parts.items():
                    own[volume][name] += float(values[index])

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        sums = {name: dict(sorted(self.sums[m].items())) for name, m in models.items() if name != QUANTISED}
        return hallucination(sums, self.patients, statistics)

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row a model."""
        rows = [[m, number(v["null_space_nmse"], 5), number(v["share_of_error"])] for m, v in entry["models"].items()]
        gaps = [
            f"{with_interval(entry[k], 5, True)} to the {k.partition('_')[0]}" for k in ("original_gap", "oracle_gap")
        ]
        note = (
            f"Part of the error in k-space columns that were not measured. Difference [{share}]: {'; '.join(gaps)}. "
            f"Enhancement, the model's over the original's: {with_interval(entry['enhancement'])}; below 1 is better."
        )
        return Table(cls.title, note, ["model", "null-space NMSE", "share of the error"], rows)
