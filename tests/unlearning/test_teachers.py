"""Blind teachers: fresh, trained on retain data alone, kept with a record, never changed."""

import json

import pytest
import torch

from scripts.data.volumes import Volume
from scripts.training import PassCounter
from scripts.unlearning import Blindspot, BlindTeacher, GradientAscent, Rewind
from tests.helpers import Scale, sample, trainer

RETAIN = sample(value=1.0, target=3.0, forget=False)
FORGET = sample(value=2.0, target=3.0, forget=True)
VOLUME = Volume("a.h5", "a.h5", (1, 1, 2, 2), (2, 2), None, "matrix", 1.0)
KNEE = Volume("k.h5", "k.h5", (1, 1, 2, 2), (2, 2), None, "matrix", 1.0, forget=True)


def teacher(folder=None, network=None, loader=(RETAIN,), **settings) -> BlindTeacher:
    settings = {"steps": 1, "learning_rate": 0.25, **settings}
    return BlindTeacher(network or Scale(0.0), loader, [VOLUME], cache=folder, **settings)


def unlearn(*handlers, steps=1) -> float:
    network = Scale(1.0)
    trainer(network, [RETAIN] * steps, list(handlers), lr=0.1).run()
    return float(network.weight.detach())


def test_trained_on_its_loader_then_frozen():
    """Adam's first step is the learning rate: 0.25 from 0 towards 3."""
    blind = teacher()
    unlearn(blind, Blindspot(teacher=blind, forget_loader=[FORGET]), steps=5)
    assert float(blind.network.weight) == pytest.approx(0.25)
    assert not blind.network.training
    assert not blind.network.weight.requires_grad


def test_reads_no_forget_batch():
    class Untouchable(list):
        def __iter__(self):
            raise AssertionError("the forget set was read")

    method = GradientAscent(forget_loader=Untouchable())
    engine = trainer(Scale(1.0), [RETAIN], [])
    blind = teacher(steps=3)
    blind.start(engine)
    method.start(engine)  # a lazy stream
    assert blind.ready


def test_fresh_weights_come_from_the_seed_whatever_they_were():
    weights = []
    for value, seed in ((0.0, 0), (5.0, 0), (0.0, 1)):
        network = torch.nn.Conv2d(1, 1, 1)
        torch.nn.init.constant_(network.weight, value)
        blind = teacher(network=network, seed=seed)
        blind.start(trainer(Scale(1.0), [RETAIN], []))
        weights.append(float(network.weight))
    assert weights[0] == weights[1] != weights[2]


def test_kept_with_a_record_and_read_again(tmp_path):
    counter = PassCounter(Scale(0.0))
    first, again = teacher(tmp_path, steps=3), teacher(tmp_path, steps=3, counter=counter, loader=())
    assert unlearn(first, Blindspot(teacher=first, forget_loader=[FORGET])) == unlearn(
        again, Blindspot(teacher=again, forget_loader=[FORGET])
    )
    assert counter.parts == {"kept blind teacher": {"forward": 3, "backward": 3}}
    (path,) = tmp_path.glob("*.json")
    record = json.loads(path.read_text())
    assert (record["steps"], record["seed"], record["volumes"][0][0]) == (3, 0, "a.h5")
    assert record["backward_slices"] == 3
    for other in ({"steps": 4}, {"steps": 3, "seed": 1}, {"steps": 3, "settings": {"mask": "4x"}}):
        unlearn(teacher(tmp_path, **other))
    assert len(list(tmp_path.glob("*.pt"))) == 4


def test_changed_weights_are_refused(tmp_path):
    unlearn(teacher(tmp_path))
    (path,) = tmp_path.glob("*.pt")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"teacher-.*\.pt: expected the weights that its record describes"):
        unlearn(teacher(tmp_path))


def test_training_it_draws_nothing_from_the_runs_random_numbers():
    torch.manual_seed(0)
    expected = torch.rand(1)
    shuffled = torch.utils.data.DataLoader([0, 1], shuffle=True, collate_fn=lambda items: RETAIN)
    network = torch.nn.Conv2d(1, 1, 1)
    torch.manual_seed(0)
    blind = teacher(network=network, loader=shuffled, steps=3)
    blind.start(trainer(Scale(1.0), [RETAIN], []))
    assert torch.equal(torch.rand(1), expected)


def test_its_passes_count():
    network, blind = Scale(1.0), teacher(steps=3)
    counter = PassCounter(network)
    trainer(network, [RETAIN] * 2, [counter, blind, Blindspot(teacher=blind, forget_loader=[FORGET])]).run()
    assert counter.parts == {
        "other networks": {"forward": 3 + 2, "backward": 3},
        "trained network": {"forward": 4, "backward": 4},
    }
    assert (counter.forward, counter.backward) == (9, 7)


def test_gives_the_reference_of_rewind():
    blind = teacher(steps=1)  # error on the forget sample: (0.25·2 - 3)² = 6.25
    rewind = Rewind([FORGET], blind)
    ascent = GradientAscent(forget_loader=[FORGET], retain_weight=0.0, forget_weight=0.1)
    network = Scale(1.0)
    trainer(network, [RETAIN], [blind, ascent, rewind], lr=0.1, epochs=20).run()
    error = (2 * float(network.weight.detach()) - 3) ** 2
    assert abs(error - 6.25) == pytest.approx(min(abs(e - 6.25) for e in rewind.errors), rel=1e-5)


def test_refusals():
    network = Scale(1.0)
    with pytest.raises(ValueError, match="'volumes': expected none of the forget set, found k.h5"):
        BlindTeacher(Scale(0.0), [RETAIN], [VOLUME, KNEE], steps=1)
    with pytest.raises(ValueError, match="'steps': expected a whole number from 1, found 0"):
        teacher(steps=0)
    with pytest.raises(ValueError, match="expected a fresh network, found the one that unlearns"):
        trainer(network, [RETAIN], [teacher(network=network)]).run()
    with pytest.raises(ValueError, match="expected to be listed before the handlers that use it"):
        unlearn(Blindspot(teacher=teacher(), forget_loader=[FORGET]))
