"""What an evaluation shows beside its metrics: the null-space error and the features of every model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from scripts.audit.hallucination import null_space_error
from scripts.data.volumes import Volume
from scripts.networks.unet import Unet
from scripts.networks.varnet import sampled_columns


def bottleneck(network: nn.Module) -> nn.Module | None:
    """End of the encoder: the deepest block of the network's last U-Net; None where it has no U-Net."""
    unets = [module for module in network.modules() if isinstance(module, Unet)]
    return unets[-1].conv if unets else None


class SliceProbe:
    """Handler of an evaluator that collects, for every run of it, null-space sums and encoder features.

    Args:
        null_space: Volumes whose null-space error is summed, usually the retain test set.
        features: Volumes whose encoder features are kept, usually both test sets.
        grid: Features are averaged to grid x grid positions a slice.

    Attributes:
        runs: One entry a run, in order: ``{"null_space": {volume: {"null", "error", "target"}},
            "features": {volume: (slices * grid², C) float32}}``; no features where the network has no U-Net.
        found: model -> its entry, once :meth:`name` has been told whose runs they were.
    """

    def __init__(self, null_space: Iterable[Volume], features: Iterable[Volume], grid: int = 4) -> None:
        self.null_space = {volume.name for volume in null_space}
        self.features = {volume.name for volume in features}
        self.grid = grid
        self.runs: list[dict] = []
        self.found: dict[str, dict] = {}
        self._hook: RemovableHandle | None = None

    def name(self, models: Sequence[str]) -> None:
        """Say whose the last runs were, in order."""
        self.found = dict(zip(models, self.runs[-len(models) :], strict=True))

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self._sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._parts: dict[str, list[Tensor]] = defaultdict(list)
        self._seen: Tensor | None = None
        self._remove()
        layer = bottleneck(cast(SupervisedEvaluator, engine).network)
        self._hook = None if layer is None else layer.register_forward_hook(self._keep)

    def _keep(self, layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        self._seen = torch.nn.functional.adaptive_avg_pool2d(output.detach().float(), self.grid)

    def __call__(self, engine: Engine) -> None:
        output: Any = engine.state.output
        label = output[Keys.LABEL]
        mask = sampled_columns(output[Keys.IMAGE])
        sums = null_space_error(label["target"], output[Keys.PRED].detach(), mask)
        for index, volume in enumerate(label["volume"]):
            if volume in self.null_space:
                for name, values in sums.items():
                    self._sums[volume][name] += float(values[index])
            if volume in self.features and self._seen is not None:
                self._parts[volume].append(self._seen[index].flatten(1).T.cpu())

    def _finish(self, engine: Engine) -> None:
        self._remove()
        self.runs.append(
            {
                "null_space": {volume: dict(sums) for volume, sums in sorted(self._sums.items())},
                "features": {volume: torch.cat(parts) for volume, parts in sorted(self._parts.items())},
            }
        )

    def _remove(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
