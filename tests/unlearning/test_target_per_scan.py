"""Each forget sample goes to the goal of its own target."""

import pytest
import torch

from scripts.data.volumes import Volume
from scripts.unlearning import GainTarget, GainTerm, TargetPerScan
from tests.helpers import Scale, join, sample, split, trainer


class Fixed(GainTerm):
    """A goal for each sample: its number in the batch."""

    started = 0

    def start(self, engine):
        super().start(engine)
        self.started += 1

    def goal(self, engine, label, zero_filled):
        inputs, *_ = self._batch
        return 10.0 + torch.arange(len(inputs))


def scan(name: str) -> Volume:
    return Volume(name, name, (1, 1, 8, 8), (8, 8), None, "matrix", 1.0)


@pytest.fixture
def batch() -> dict:
    both = join(sample(1.0, 1.0, True), sample(1.0, 1.0, True), sample(1.0, 1.0, True))
    return {**both, "volume": ["knee", "patient", "knee 2"]}


def test_goals_by_scan(batch):
    member = Fixed([batch])
    kind, unused = GainTarget([batch], gain=4.0, transfer=0.5), Fixed([batch])
    targets = {"kind": kind, "contrast": unused, "member": member}
    parts = {"kind": [scan("knee"), scan("knee 2")], "member": [scan("patient")]}
    method = TargetPerScan([batch], targets, parts)
    engine = trainer(Scale(), [batch], [])
    method.start(engine)
    label = method.take(engine, batch)
    goals = method.goal(engine, label, batch["image"])
    assert goals.tolist() == [2.0, 11.0, 2.0]
    assert (member.started, unused.started) == (1, 0)


def test_the_other_targets_draw_nothing_of_their_own(batch):
    """One forget batch a step is read, not one for each target."""
    read = []

    class Counted(list):
        def __iter__(self):
            for item in super().__iter__():
                read.append(item)
                yield item

    loader = Counted([batch])
    targets = {"kind": Fixed(loader), "member": Fixed(loader)}
    method = TargetPerScan(loader, targets, {"kind": [], "member": []})
    method.term = lambda engine, prediction, label: prediction.mean(dim=(1, 2, 3))
    trainer(Scale(), [batch], [method], prepare_batch=split, epochs=3).run()
    assert len(read) == 3
