"""Loaders of a run in one or several processes: who reads what.

All processes draw the same random numbers, those of one process alone with the same batches; each reads its own part
of every batch. So the number of processes changes no order, no mask and no length of an epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from monai.data import DataLoader, DistributedSampler
from torch.utils.data import Dataset

from scripts.data.slices import SliceDataset, moved


class ShareOfBatch(Dataset):
    """One process's part of every batch: of m samples on N processes those at places rank, rank + N, ...

    To each item it adds ``place`` () int64 in the whole batch, ``weight`` () float32, k·N/m for the k samples of this
    process, and ``whole``, the batch's size m as text, which no loader moves to a GPU. The mean over processes of
    weight · own mean is the mean over the batch. A process that a last, small batch leaves without a sample gets the
    first one again, with weight 0.

    Args:
        dataset: The slices; of those that others read, only the random numbers are drawn.
        rank: The rank of this process.
        processes: The number N of processes.

    Example:
        >>> volume = type("Volume", (), {"num_slices": 3, "name": "brain_001"})()
        >>> ShareOfBatch(SliceDataset([volume]), rank=1, processes=2).places(3)
        range(1, 3, 2)
    """

    def __init__(self, dataset: SliceDataset, rank: int, processes: int) -> None:
        self.dataset = dataset
        self.rank = rank
        self.processes = processes

    def __len__(self) -> int:
        return len(self.dataset)

    def places(self, whole: int) -> range:
        """This process's places in a batch of ``whole`` samples."""
        return range(self.rank, whole, self.processes)

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        """This process's items of the batch of these indices."""
        own, whole = self.places(len(indices)), len(indices)
        read = own or range(1)
        marks = {"whole": str(whole), "weight": torch.tensor(len(own) * self.processes / whole)}
        items = []
        for place, index in enumerate(indices):
            if place in read:
                items.append({**self.dataset[index], "place": torch.tensor(place), **marks})
            else:
                self.dataset.pass_over(index)
        return items


class CountingLoader(DataLoader):
    """MONAI's ``DataLoader``, which tells its data set what its worker processes have opened."""

    def __iter__(self) -> Iterator:  # type: ignore[override]  # torch's own class of iterators is private
        slices = self.dataset.dataset if isinstance(self.dataset, ShareOfBatch) else self.dataset
        for batch in super().__iter__():
            if self.num_workers and isinstance(slices, SliceDataset):
                slices.count(batch["volume"])
            yield batch


class TrainingLoader(CountingLoader):
    """MONAI's ``DataLoader``, whose batches the processes of a distributed run share: see :class:`ShareOfBatch`.

    Args:
        dataset: The slices.
        batch_size: Samples of a batch in one process; ``.batch_size`` is that of all of them together.
        kwargs: Those of ``monai.data.DataLoader``.
    """

    def __init__(self, dataset: SliceDataset, batch_size: int = 1, **kwargs: Any) -> None:
        processes = idist.get_world_size()
        kwargs.setdefault("pin_memory", torch.cuda.is_available())
        share = dataset if processes == 1 else ShareOfBatch(dataset, idist.get_rank(), processes)
        super().__init__(share, batch_size=batch_size * processes, **kwargs)


class EvaluationLoader(CountingLoader):
    """MONAI's ``DataLoader`` over slices in order, each read by one process: MONAI's ``DistributedSampler``, unpadded.

    Args:
        dataset: The slices; masks should be fixed.
        kwargs: Those of ``monai.data.DataLoader``.

    Raises:
        ValueError: fewer slices than processes.
    """

    def __init__(self, dataset: SliceDataset, **kwargs: Any) -> None:
        kwargs.setdefault("pin_memory", torch.cuda.is_available())
        if idist.get_world_size() > 1:
            kwargs["sampler"] = DistributedSampler(dataset, even_divisible=False, shuffle=False)
        super().__init__(dataset, **kwargs)


class EndlessBatches:
    """The batches of a loader, pass after pass, for ever; its place can be kept and found again.

    Args:
        loader: Batches; if its ``sampler`` has a ``state_dict``, that is kept too.
        device: Where the tensors of each batch go, once, for all that use it; None: they stay where they are.

    Raises:
        ValueError: an empty loader, when a batch is asked for.

    Example:
        >>> stream = EndlessBatches([1, 2])
        >>> [next(stream) for _ in range(5)]
        [1, 2, 1, 2, 1]
    """

    def __init__(self, loader: Iterable, device: torch.device | str | None = None) -> None:
        self.loader = loader
        self.device = device
        sampler = getattr(loader, "sampler", None)
        self._sampler = sampler if hasattr(sampler, "state_dict") else None
        self._batches: Iterator = iter(())
        self._start: dict = {}  # of the pass: random state, and the sampler's
        self._taken = 0  # batches of the pass

    def __iter__(self) -> EndlessBatches:
        return self

    def __next__(self) -> Any:
        try:
            batch = next(self._batches)
        except StopIteration:
            self._begin()
            try:
                batch = next(self._batches)
            except StopIteration:
                raise ValueError("batches: expected at least one, found none") from None
        self._taken += 1
        return batch if self.device is None else moved(batch, self.device)

    def state_dict(self) -> dict:
        """How the current pass began and how many of its batches were taken."""
        return {"start": self._start, "taken": self._taken}

    def load_state_dict(self, state: dict) -> None:
        """Go to a kept place: the pass is begun as it was then and its batches up to there are read again.

        That leaves PyTorch's random state as it was some time then; the caller sets it to what it should be.
        """
        if state["taken"]:
            torch.set_rng_state(state["start"]["random"])
            if self._sampler is not None:
                self._sampler.load_state_dict(state["start"]["sampler"])
            self._begin()
            for _ in range(state["taken"]):
                next(self)

    def _begin(self) -> None:
        kept = None if self._sampler is None else self._sampler.state_dict()
        self._start = {"random": torch.get_rng_state(), "sampler": kept}
        self._batches = iter(self.loader)
        self._taken = 0
