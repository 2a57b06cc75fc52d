"""Handlers of every training: clipping, divergence, cost, progress."""

import pytest
import torch

from scripts.training import ClipGradient, FiniteLoss, PassCounter, Progress
from scripts.unlearning import GradientAscent
from tests.helpers import Scale, join, sample, trainer

RETAIN = sample(value=1.0, target=3.0, forget=False)
FORGET = sample(value=2.0, target=3.0, forget=True)


def test_clip_gradient():
    network = Scale(1.0)
    trainer(network, [RETAIN], [ClipGradient(0.5)], lr=0.1).run()
    assert float(network.weight.detach()) == pytest.approx(1 + 0.1 * 0.5)
    with pytest.raises(ValueError, match="'max_norm': expected above 0, found 0"):
        ClipGradient(0)


def test_divergence_fails_with_the_volume_before_the_weights_are_touched():
    network = Scale(1.0)
    bad = sample(value=float("nan"), target=1.0, forget=False)
    with pytest.raises(ValueError, match="iteration 2, volume scan: expected a finite loss, found nan"):
        trainer(network, [RETAIN, bad], [FiniteLoss()], lr=0.1).run()
    assert float(network.weight.detach()) == pytest.approx(1.4)


def test_pass_counter_counts_slices_of_every_handler():
    network = Scale(1.0)
    counter = PassCounter(network)
    two = join(RETAIN, RETAIN)
    trainer(network, [two, RETAIN], [GradientAscent([FORGET]), counter], epochs=3).run()
    assert (counter.forward, counter.backward) == (3 * 5, 3 * 5)
    with torch.no_grad():
        network(RETAIN["image"])
    assert counter.forward == 15  # only while the engine ran


def test_pass_counter_tells_forward_only_passes():
    network = Scale(1.0)
    counter = PassCounter(network)

    class Look:
        def attach(self, engine):
            from ignite.engine import Events

            engine.add_event_handler(Events.ITERATION_COMPLETED, self)

        @torch.no_grad()
        def __call__(self, engine):
            network(RETAIN["image"])

    trainer(network, [RETAIN], [counter, Look()]).run()
    assert (counter.forward, counter.backward) == (2, 1)


def test_progress_says_loss_and_total(capsys):
    network = Scale(1.0)
    trainer(network, [RETAIN] * 3, [Progress("training")], epochs=2).run()
    assert "6/6" in capsys.readouterr().err
