"""A stated gain over the zero-filled image: reached from both sides, measured on held-out data, one for each scan."""

import math

import pytest
import torch

from scripts.data.volumes import Volume
from scripts.unlearning import (
    GainTarget,
    GainTerm,
    TargetPerScan,
)
from tests.helpers import Scale, join, sample, split, trainer

RETAIN = sample(value=1.0, target=3.0, forget=False)  # dJ/dw at w = 1: -4
FORGET = sample(value=2.0, target=3.0, forget=True)  # dJ/dw at w = 1: -4
LR = 0.1


def run(handlers, loader=(RETAIN,), epochs=1) -> float:
    network = Scale(1.0)
    trainer(network, list(loader), handlers, lr=LR, epochs=epochs).run()
    return float(network.weight.detach())


@pytest.mark.parametrize(("target", "sign"), [(5.0, 1), (12.0, -1)])
def test_gain_target_climbs_or_descends_towards_the_stated_gain(target, sign):
    """Errors 3 (zero-filled) and abs(2 w - 3) = 1: a gain of 9.54 dB, whose slope at w = 1 is 40 / ln 10."""
    method = GainTarget(forget_loader=[FORGET], gain=target, transfer=1.0, forget_weight=0.05, retain_weight=0.0)
    method.zero_filled = Scale(0.0)
    assert run([method]) == pytest.approx(1 - LR * 0.05 * sign * 40 / math.log(10))


def test_gain_target_measures_the_originals_gain_on_held_out_data():
    """Errors 3 and 2 on the first, 1 and 0.5 on the second image, before any step."""
    held_out = [RETAIN, sample(value=0.5, target=1.0, forget=False)]
    method = GainTarget(forget_loader=[FORGET], loader=held_out, transfer=0.2)
    method.zero_filled = Scale(0.0)
    run([method])
    assert method.gain == pytest.approx((20 * math.log10(1.5) + 20 * math.log10(2)) / 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "expected either 'loader' or 'gain', found both or neither"),
        ({"gain": 1.0, "loader": [RETAIN]}, "expected either 'loader' or 'gain', found both or neither"),
        ({"gain": 1.0, "transfer": 0.0}, "'transfer': expected a number above 0, found 0.0"),
    ],
)
def test_gain_target_refuses_settings_that_cannot_work(settings, message):
    with pytest.raises(ValueError, match=message):
        GainTarget(forget_loader=[FORGET], **settings)


def test_gain_target_needs_held_out_data():
    with pytest.raises(ValueError, match="'loader': expected held-out retain data, found none"):
        run([GainTarget(forget_loader=[FORGET], loader=[])])


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
    member = Fixed(forget_loader=[batch])
    kind, unused = GainTarget(forget_loader=[batch], gain=4.0, transfer=0.5), Fixed(forget_loader=[batch])
    targets = {"kind": kind, "contrast": unused, "member": member}
    parts = {"kind": [scan("knee"), scan("knee 2")], "member": [scan("patient")]}
    method = TargetPerScan(forget_loader=[batch], targets=targets, parts=parts)
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
    targets = {"kind": Fixed(forget_loader=loader), "member": Fixed(forget_loader=loader)}
    method = TargetPerScan(forget_loader=loader, targets=targets, parts={"kind": [], "member": []})
    method.term = lambda engine, prediction, label: prediction.mean(dim=(1, 2, 3))
    trainer(Scale(), [batch], [method], prepare_batch=split, epochs=3).run()
    assert len(read) == 3
