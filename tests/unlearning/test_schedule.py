"""A budget in shares of training's passes, settings that fade, and Muon on one cycle of rates."""

import math

import pytest
import torch
from ignite.engine import Events

from scripts.data import prepare_batch
from scripts.networks import VarNet
from scripts.training import ClipGradient, ReconstructionLoss
from scripts.unlearning import (
    FastTraining,
    epoch_length,
)
from tests.helpers import Scale, sample, trainer
from tests.training.test_numerics import batch_of

RETAIN = sample(value=1.0, target=3.0, forget=False)  # dJ/dw at w = 1: -4
FORGET = sample(value=2.0, target=3.0, forget=True)  # dJ/dw at w = 1: -4
LR = 0.1


def run(handlers, loader=(RETAIN,), epochs=1) -> float:
    network = Scale(1.0)
    trainer(network, list(loader), handlers, lr=LR, epochs=epochs).run()
    return float(network.weight.detach())


@pytest.mark.parametrize("budget", [0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("slices_per_step", [1, 2, 6])
def test_a_budget_is_spent_and_not_exceeded(budget, slices_per_step):
    spent = 4 * slices_per_step * epoch_length(budget, 3780, slices_per_step, 4, otherwise=18)
    assert budget * 3780 - 4 * slices_per_step <= spent <= budget * 3780


def test_no_budget_and_an_impossible_one():
    assert epoch_length(None, 3780, 1, 4, otherwise=18) == 18
    assert epoch_length(1e-9, 3780, 1, 4, otherwise=18) == 1
    with pytest.raises(ValueError, match="'budget': expected a share of training's passes above 0, found 0"):
        epoch_length(0, 3780, 1, 4, otherwise=18)


class Layers(torch.nn.Module):
    """The image times a number that a matrix and a scalar make; a second matrix is held."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.eye(3))
        self.held = torch.nn.Parameter(torch.eye(3))
        self.scalar = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * self.scalar * (self.matrix * self.held).sum() / 3


def rates(steps: int, epochs: int = 1, **settings) -> list[list[float]]:
    """The learning rates of matrices and of the rest at each step."""
    seen: list[list[float]] = []
    method = FastTraining(lr=1.0, adam_lr=0.1, **settings)
    engine = trainer(Layers(), [RETAIN] * steps, [method], epochs=epochs)
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: seen.append([group["lr"] for group in engine.optimizer.param_groups])
    )
    engine.run()
    return seen


def test_one_cycle_rises_and_falls_over_the_whole_run():
    seen = rates(steps=4, epochs=2, warm_up=0.25, first=0.2)
    expected = [0.2, 0.6, *((1 + math.cos(math.pi * x)) / 2 for x in (0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6))]
    assert [pair[0] for pair in seen] == pytest.approx(expected)
    assert [pair[1] for pair in seen] == pytest.approx([rate / 10 for rate in expected])


def test_the_schedule_fits_the_budget():
    short, long = rates(10), rates(40)
    assert [pair[0] for pair in long][::4] == pytest.approx([pair[0] for pair in short])
    assert [rates(n, warm_up=0.0)[0][0] for n in (1, 3)] == [1.0, 1.0]


def test_the_first_step_is_muons_and_what_is_held_stays():
    network = Layers()
    engine = trainer(network, [RETAIN], [FastTraining(lr=0.5, adam_lr=0.1, held=["held"], warm_up=0.0)])
    engine.run()
    # the prediction is too low: along the identity, by the learning rate; Adam's first step is its rate
    matrix = network.matrix.detach()
    assert torch.allclose(matrix, torch.eye(3) * matrix[0, 0])
    assert 1 + 0.6 * 0.5 < float(matrix[0, 0]) < 1 + 1.3 * 0.5
    assert float(network.scalar.detach()) == pytest.approx(1.1)
    assert torch.equal(network.held, torch.eye(3))
    assert network.held.grad is None
    assert network.held.requires_grad


def test_held_weights_cost_no_gradient_and_change_no_bit():
    """Beside the same run in which their gradients are computed, and dropped before they are clipped."""

    class Dropped(FastTraining):
        def start(self, engine):
            super().start(engine)
            self.finish(engine)

    found = []
    for kind in (FastTraining, Dropped):
        torch.manual_seed(0)
        network = VarNet(num_cascades=2, sens_chans=2, sens_pools=1, chans=4, pools=1)
        seen = []
        watch = network.sens_net.register_forward_hook(lambda *args, seen=seen: seen.append(args[2].requires_grad))
        handlers = [kind(held=["sens_net.*"]), ClipGradient(0.01)]
        settings = {"prepare_batch": prepare_batch, "loss_function": ReconstructionLoss(), "decollate": False}
        trainer(network, [batch_of(seed) for seed in range(3)], handlers, **settings).run()
        watch.remove()
        found.append((network.state_dict(), sum(seen)))
    (ours, none), (dropped, some) = found
    assert (none, some) == (0, 3)
    assert all(torch.equal(value, dropped[name]) for name, value in ours.items())


def test_a_stopped_run_goes_on_with_muons_momentum():
    method = FastTraining()
    trainer(Layers(), [RETAIN] * 3, [method]).run()
    kept, other = method.state_dict(), FastTraining()
    other.start(trainer(Layers(), [RETAIN], []))
    other.load_state_dict(kept)
    assert torch.equal(other.optimizer.state_dict()["state"][0]["momentum"], kept["state"][0]["momentum"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FastTraining(warm_up=2), r"'warm_up': expected a number from 0 to 1, found 2"),
    ],
)
def test_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_pattern_of_held_weights_that_matches_none_is_refused():
    with pytest.raises(ValueError, match=r"'held': expected patterns of Scale's parameters, found 'sens_net.\*'"):
        trainer(Scale(), [RETAIN], [FastTraining(held=["weight", "sens_net.*"])]).run()
