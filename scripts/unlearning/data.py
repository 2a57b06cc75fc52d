"""What an unlearning run reads: augmentation, and features by which retain volumes are chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import DataLoader

from scripts.data import Augment, SliceDataset, prepare_batch
from scripts.data.volumes import Volume
from scripts.run.engines import Handler, Trainer
from scripts.run.kinds import Count, check_arguments
from scripts.training import PassCounter


class AugmentedSlices(Handler):
    """Handler that puts a random affine map before the undersampling of a data set while the engine runs.

    A small retain subset is memorised within a few epochs; turned, scaled, sheared, shifted and mirrored slices are new
    each time.

    Args:
        dataset: The slices, with an ``Undersample`` as their transform: in a configuration those of the retain set,
            ``$@retain_sampler.dataset``.
        settings: See :class:`scripts.data.Augment`.

    Source: Fabian et al. 2021 (MRAugment).
    """

    exact = True  # reads nothing but the batches

    def __init__(self, dataset: SliceDataset, **settings: float) -> None:
        self.dataset = dataset
        self.plain = dataset.transform
        self.augment = Augment(dataset.transform, **settings)  # type: ignore[arg-type]

    def __call__(self, engine: Trainer) -> None:
        self.dataset.transform = self.augment

    def finish(self, engine: Trainer) -> None:
        """Read the slices as they are again."""
        self.dataset.transform = self.plain


@dataclass(eq=False, repr=False)
class EncoderFeatures:
    """Describes volumes by the output of one layer, averaged over space and the middle slices.

    Args:
        network: A reconstruction network with its weights, e.g. the original.
        layer: The name of a module with output (B, D, H, W), e.g. the bottleneck ``cascades.0.model.unet.conv``.
        transform: The transform of a slice, as in training, with a fixed mask.
        slices_per_volume: The number of slices that are read around the middle of each volume.
        device: The device on which the network runs.
        counter: The counter of passes.

    Raises:
        ValueError: There is no such layer.
    """

    network: torch.nn.Module
    layer: str
    transform: Callable[[dict], dict]
    slices_per_volume: Count = 1
    device: torch.device | str = "cpu"
    counter: PassCounter | None = None

    def __post_init__(self) -> None:
        check_arguments(self, vars(self))
        if self.layer not in dict(self.network.named_modules()):
            raise ValueError(f"encoder features: 'layer': expected a module of the network, found {self.layer!r}")

    @torch.no_grad()
    def __call__(self, volumes: Sequence[Volume]) -> np.ndarray:
        """Feature vectors, (volumes, D) float64."""
        self.network.to(self.device).eval()
        seen: list[np.ndarray] = []
        hook = self.network.get_submodule(self.layer).register_forward_hook(
            lambda module, inputs, output: seen.append(output.double().mean((0, 2, 3)).cpu().numpy())
        )
        try:
            return np.stack([self._volume(volume, seen) for volume in volumes])
        finally:
            hook.remove()

    def _volume(self, volume: Volume, seen: list[np.ndarray]) -> np.ndarray:
        count = min(self.slices_per_volume, volume.num_slices)
        first = (volume.num_slices - count) // 2
        seen.clear()
        slices = torch.utils.data.Subset(SliceDataset([volume], self.transform), range(first, first + count))
        for batch in DataLoader(slices):
            inputs, _, args, kwargs = prepare_batch(batch, self.device)
            self.network(inputs, *args, **kwargs)
        if self.counter is not None:
            self.counter.add("retain selection", forward=count)
        return np.mean(seen, axis=0)
