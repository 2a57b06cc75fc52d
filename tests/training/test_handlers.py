"""Handlers of every training: clipping, divergence, cost, progress."""

import pytest
import torch
from ignite.engine import Events

from scripts.training import ClipGradient, FiniteLoss, PassCounter, Progress
from scripts.unlearning import GradientAscent
from tests.helpers import Scale, join, sample, trainer

RETAIN = sample(value=1.0, target=3.0, forget=False)
FORGET = sample(value=2.0, target=3.0, forget=True)


def test_clip_gradient():
    network = Scale(1.0)
    trainer(network, [RETAIN], [ClipGradient(0.5)], lr=0.1).run()
    assert float(network.weight.detach()) == pytest.approx(1 + 0.1 * 0.5)
    with pytest.raises(ValueError, match="'max_norm': expected a number above 0, found 0"):
        ClipGradient(0)


def test_divergence_fails_with_the_volume_before_the_weights_are_touched():
    network = Scale(1.0)
    bad = sample(value=float("nan"), target=1.0, forget=False)
    with pytest.raises(ValueError, match="iteration 2, volume scan: expected a finite loss, found nan"):
        trainer(network, [RETAIN, bad], [FiniteLoss()], lr=0.1).run()
    assert float(network.weight.detach()) == pytest.approx(1.4)


@pytest.mark.parametrize(("bad_at", "every"), [(2, 3), (4, 3), (4, 100)], ids=["middle", "last", "epoch's end"])
def test_divergence_is_found_late_but_before_the_epoch_ends(bad_at, every):
    """As where looking at a loss would wait for the device."""
    bad = sample(value=float("nan"), target=1.0, forget=False)
    batches = [bad if step == bad_at else RETAIN for step in range(1, 5)]
    run = trainer(Scale(1.0), batches, [FiniteLoss(every)], lr=0.1)
    ended = []
    run.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: ended.append(engine.state.epoch))
    with pytest.raises(ValueError, match=f"iteration {bad_at}, volume scan: expected a finite loss, found nan"):
        run.run()
    assert not ended


def test_divergence_is_found_where_a_run_is_terminated_early():
    bad = sample(value=float("nan"), target=1.0, forget=False)
    run = trainer(Scale(1.0), [RETAIN, bad, RETAIN, RETAIN], [FiniteLoss(100)])
    run.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda engine: engine.terminate())
    with pytest.raises(ValueError, match="iteration 2"):
        run.run()


def test_pass_counter_counts_slices_of_every_handler():
    network = Scale(1.0)
    counter = PassCounter(network)
    two = join(RETAIN, RETAIN)
    trainer(network, [two, RETAIN], [GradientAscent(forget_loader=[FORGET]), counter], epochs=3).run()
    assert (counter.forward, counter.backward) == (3 * 5, 3 * 5)
    with torch.no_grad():
        network(RETAIN["image"])
    assert counter.forward == 15  # only while the engine ran


def test_pass_counter_tells_forward_only_passes():
    network = Scale(1.0)
    counter = PassCounter(network)

    class Look:
        def attach(self, engine):
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
