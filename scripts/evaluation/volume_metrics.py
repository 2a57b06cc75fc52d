"""Ignite metrics that put slices back into their volumes, in any order, over batches and processes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric, MetricsLambda
from ignite.metrics.metric import reinit__is_reduced
from torch import Tensor

from scripts.evaluation.metrics import SliceSums, combine, slice_sums
from scripts.kspace.fourier import crop_like

Identity = tuple[str, str]  # patient_id, anatomy
Slices = dict[int, tuple[Identity, SliceSums]]


@dataclass(frozen=True)
class VolumeValues:
    """PSNR (dB), SSIM and NMSE of one volume, how many slices were seen, and whose volume it is."""

    psnr: float
    ssim: float
    nmse: float
    slices: int
    patient_id: str
    anatomy: str


def prediction_and_label(output: Mapping[str, Any]) -> tuple[Tensor, Mapping[str, Any]]:
    """The (prediction, label) pair of MONAI's supervised engines run with `decollate=False`."""
    return output["pred"], output["label"]


class VolumeMetrics(Metric):
    """PSNR, SSIM and NMSE of every volume.

    Args:
        output_transform: Makes the pair (prediction, label) of the engine's output.

    `update` takes that pair: the prediction (B, 1, H, W), any floating dtype, centre-cropped to the target; the
    label, a mapping with `target` (B, 1, h, w), `max_value` (B,), `volume` (B names), `slice` (B,) and,
    optionally, `patient_id` and `anatomy` (B strings each).
    `compute` returns {volume: `VolumeValues`}, sorted by volume, the same on every process. In
    `engine.state.metrics` it is one entry.

    Raises:
        ValueError: NaN or Inf in a prediction or target, a slice seen twice, a target above the maximum of
            its volume (volume and slice are named); slices of one volume that disagree about the patient,
            the anatomy or the maximum (the volume is named).
        NotComputableError: no slice was seen.

    Example:
        >>> import torch
        >>> metric = VolumeMetrics()
        >>> target = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
        >>> label = {"target": target, "max_value": [1.0], "volume": ["brain_001"], "slice": [0]}
        >>> metric.update((target + 0.1, label))
        >>> round(metric.compute()["brain_001"].psnr, 3)
        20.0
    """

    def __init__(self, output_transform: Callable[..., Any] = prediction_and_label) -> None:
        super().__init__(output_transform=output_transform)

    @reinit__is_reduced
    def reset(self) -> None:
        self._volumes: dict[str, Slices] = {}

    @reinit__is_reduced
    def update(self, output: Sequence[Any]) -> None:
        prediction, label = output
        target = label["target"]
        if target.ndim != 4 or target.shape[1] != 1 or prediction.shape[:2] != target.shape[:2]:
            shapes = f"{tuple(prediction.shape)} and {tuple(target.shape)}"
            raise ValueError(f"prediction and target must both be (B, 1, height, width), got {shapes}")
        target, prediction = target.cpu(), crop_like(prediction, target).cpu()
        blank = [""] * len(target)
        identities = list(zip(label.get("patient_id", blank), label.get("anatomy", blank), strict=True))
        indices, peaks = (torch.as_tensor(label[key]).tolist() for key in ("slice", "max_value"))
        for i, volume in enumerate(label["volume"]):
            self._add(volume, indices[i], identities[i], target[i], prediction[i], peaks[i])

    def _add(
        self, volume: str, index: int, identity: Identity, target: Tensor, prediction: Tensor, max_value: float
    ) -> None:
        slices = self._volumes.setdefault(volume, {})
        if index in slices:
            raise ValueError(f"volume {volume}, slice {index}: seen twice")
        try:
            (sums,) = slice_sums(target, prediction, max_value)
            if (peak := float(target.max())) > max_value * (1 + 1e-5):
                raise ValueError(f"the target reaches {peak:.6g}, above the volume's max_value {max_value:.6g}")
        except ValueError as error:
            raise ValueError(f"volume {volume}, slice {index}: {error}") from error
        slices[index] = (identity, sums)

    def compute(self) -> dict[str, VolumeValues]:
        volumes = _merge(idist.all_gather(self._volumes)) if idist.get_world_size() > 1 else self._volumes
        if not volumes:
            raise NotComputableError("VolumeMetrics needs at least one slice before its result can be computed")
        return {volume: _summary(volume, volumes[volume]) for volume in sorted(volumes)}

    def completed(self, engine: Engine, name: str) -> None:
        """Set one entry: Ignite would spread the mapping, so that every volume became a metric of its own."""
        engine.state.metrics[name] = self.compute()


class MeanOverVolumes(MetricsLambda):
    """The mean over volumes of one entry of a `VolumeMetrics`, a float: the number by which weights are kept.

    Args:
        volumes: The metric, which may also be attached to the same engine.
        name: "psnr" (dB), "ssim" or "nmse".

    Raises:
        ValueError: at `compute`, a volume whose value is infinite.

    Example:
        >>> import torch
        >>> from monai.engines import SupervisedEvaluator
        >>> volumes = VolumeMetrics()
        >>> evaluator = SupervisedEvaluator(
        ...     torch.device("cpu"), val_data_loader=[], network=torch.nn.Identity(), decollate=False,
        ...     key_val_metric={"psnr": MeanOverVolumes(volumes, "psnr")},
        ...     additional_metrics={"volumes": volumes})
        >>> evaluator.state.key_metric_name
        'psnr'
    """

    def __init__(self, volumes: VolumeMetrics, name: Literal["psnr", "ssim", "nmse"]) -> None:
        self.name = name
        super().__init__(self._mean, volumes)

    def _mean(self, volumes: Mapping[str, VolumeValues]) -> float:
        values = {volume: float(getattr(entry, self.name)) for volume, entry in volumes.items()}
        for volume, value in values.items():
            if not math.isfinite(value):
                raise ValueError(f"volume {volume}: {self.name} is {value}")
        return math.fsum(values.values()) / len(values)


def _merge(ranks: Any) -> dict[str, Slices]:
    """The slices of all processes by volume; a slice on two of them is an error."""
    merged: dict[str, Slices] = defaultdict(dict)
    for rank in ranks:
        for volume, slices in rank.items():
            twice = sorted(merged[volume].keys() & slices.keys())
            if twice:
                raise ValueError(
                    f"volume {volume}: slices {twice} were evaluated by two processes; "
                    "a distributed sampler must not pad (even_divisible=False)"
                )
            merged[volume].update(slices)
    return merged


def _summary(volume: str, slices: Slices) -> VolumeValues:
    identities = {identity for identity, _ in slices.values()}
    if len(identities) > 1:
        raise ValueError(f"volume {volume}: its slices name different (patient, anatomy): {sorted(identities)}")
    try:
        metrics = combine(sums for _, sums in slices.values())
    except ValueError as error:
        raise ValueError(f"volume {volume}: {error}") from error
    patient_id, anatomy = identities.pop()
    return VolumeValues(**metrics, slices=len(slices), patient_id=patient_id, anatomy=anatomy)
