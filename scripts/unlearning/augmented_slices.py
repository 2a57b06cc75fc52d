"""Augmentation of what a training reads, switched on by a method."""

from __future__ import annotations

from ignite.engine import Events

from scripts.data import Augment, SliceDataset
from scripts.run.engines import Trainer


class AugmentedSlices:
    """Handler that puts a random affine map before the undersampling of a data set while the engine runs.

    Few slices are learnt by heart within some epochs; turned, scaled, sheared, shifted and mirrored ones are new each
    time.

    Args:
        dataset: The slices, with an ``Undersample`` as their transform: in a configuration those of the retain set,
            ``$@retain_sampler.dataset``.
        settings: See :class:`scripts.data.Augment`.

    Source: Fabian et al. 2021 (MRAugment).
    """

    def __init__(self, dataset: SliceDataset, **settings: float) -> None:
        self.dataset = dataset
        self.plain = dataset.transform
        self.augment = Augment(dataset.transform, **settings)  # type: ignore[arg-type]

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def __call__(self, engine: Trainer) -> None:
        self.dataset.transform = self.augment

    def finish(self, engine: Trainer) -> None:
        """Read the slices as they are again."""
        self.dataset.transform = self.plain
