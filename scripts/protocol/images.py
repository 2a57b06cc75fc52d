"""Reconstructions of the study's models on chosen slices, for the panels and the slice viewer."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from scripts.data import SliceDataset, Undersample, Volume, prepare_batch
from scripts.fourier import center_crop
from scripts.networks import ZeroFilled, load_weights


@dataclass(frozen=True)
class Scan:
    """A volume and what each model makes of it.

    Attributes:
        cohort: BTA, KTA or UA.
        volume: the volume.
        slices: numbers of the chosen slices.
        target: reference images, (S, h, w) float32.
        images: model -> reconstructions, (S, h, w) float32.
    """

    cohort: str
    volume: Volume
    slices: Sequence[int]
    target: np.ndarray
    images: Mapping[str, np.ndarray]


class Reconstructor:
    """Runs models on slices, undersampled as in the evaluation.

    Args:
        network: the architecture.
        weights: model -> file.
        mask: undersampling pattern.
        device: PyTorch device.
    """

    def __init__(self, network: torch.nn.Module, weights: Mapping[str, str], mask, device: str) -> None:
        self.device = device
        self.transform = Undersample(mask, seed=0)
        loaded = {name: load_weights(copy.deepcopy(network), path) for name, path in weights.items()}
        self.models = {name: m.to(device).eval() for name, m in {"zero-filled": ZeroFilled(), **loaded}.items()}

    @torch.no_grad()
    def __call__(self, cohort: str, volume: Volume, slices: Sequence[int]) -> Scan:
        """Reconstruct slices of a volume with every model."""
        dataset = SliceDataset([volume], self.transform)
        targets, images = [], {name: [] for name in self.models}
        for index in slices:
            batch = torch.utils.data.default_collate([dataset[index]])
            inputs, label, args, _ = prepare_batch(batch, self.device)
            targets.append(label["target"][0, 0].cpu().numpy())
            for name, network in self.models.items():
                image = center_crop(network(inputs, *args), volume.target_size)
                images[name].append(image[0, 0].float().cpu().numpy())
        return Scan(cohort, volume, slices, np.stack(targets), {n: np.stack(i) for n, i in images.items()})
