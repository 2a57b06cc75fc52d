"""Methods that change the weights themselves: which, how far, towards what, and what stays."""

import copy

import pytest
import torch

from scripts.networks import VarNet
from scripts.unlearning import (
    GradientAscent,
    NoTraining,
    Perturb,
    RetainDistillation,
    Rewind,
    SynapticDampening,
    WeightAverage,
)
from scripts.unlearning.fit import initialise
from tests.helpers import Scale, join, sample, trainer
from tests.unlearning.columns import Columns, columns, weights_of

RETAIN = sample(value=1.0, target=3.0, forget=False)
FORGET = sample(value=2.0, target=3.0, forget=True)
LR = 0.1


def test_synaptic_dampening_by_the_mean_of_squares():
    """Retain gradients (-1, -0.1), forget (-1, ±2): I_f/I_D = (1, 400), so the second weight is scaled by 1/400."""
    network = Columns(1.0, 1.0)
    forget = join(columns((2.0, 3.0), True), columns((2.0, -1.0), True))
    method = SynapticDampening([columns((2.0, 1.1))], [forget], alpha=10.0, lam=1.0)
    engine = trainer(network, [columns((9.0, 9.0))] * 3, [method, NoTraining()])
    engine.run()
    assert weights_of(network) == pytest.approx([1.0, 1 / 400], rel=1e-4)
    assert engine.state.iteration == 0


def test_synaptic_dampening_never_enlarges_a_weight():
    network = Columns(1.0, 1.0)
    method = SynapticDampening([columns((2.0, 2.0))], [columns((3.0, 2.0), True)], alpha=1.0, lam=100.0)
    trainer(network, [columns((9.0, 9.0))], [method, NoTraining()]).run()
    assert weights_of(network) == [1.0, 1.0]


@pytest.mark.parametrize(("start", "expected"), [(0.0, 1.768), (0.5, 1.848)])
def test_weight_average(start, expected):
    """Steps to 1.4, 1.72, 1.976; at decay 1/2 the average begins with the first of them that counts."""
    network = Scale(1.0)
    trainer(network, [RETAIN] * 3, [WeightAverage(decay=0.5, start=start)], lr=0.1).run()
    assert float(network.weight.detach()) == pytest.approx(expected)


def run(handlers, loader=(RETAIN,), epochs=1) -> float:
    network = Scale(1.0)
    trainer(network, list(loader), handlers, lr=LR, epochs=epochs).run()
    return float(network.weight.detach())


def test_rewind_returns_to_the_epoch_that_matches():
    ascent = GradientAscent(forget_loader=[FORGET], retain_weight=0.0, forget_weight=0.1)
    after_two = run([ascent], epochs=2)
    reference = (2 * after_two - 3) ** 2
    rewind = Rewind([FORGET], reference * 1.01)
    assert run([ascent, rewind], epochs=4) == pytest.approx(after_two)
    assert len(rewind.errors) == 4
    assert rewind.errors[1] == pytest.approx(reference)


def layers(*weights: float) -> torch.nn.Sequential:
    """1x1 convolutions; their parameters are called 0.weight, 0.bias, 1.weight, ..."""
    network = torch.nn.Sequential(*(torch.nn.Conv2d(1, 1, 1) for _ in weights))
    for layer, weight in zip(network, weights, strict=True):
        torch.nn.init.constant_(layer.weight, weight)
        torch.nn.init.constant_(layer.bias, 0.0)
    return network


def varnet(seed: int) -> VarNet:
    torch.manual_seed(seed)
    return VarNet(num_cascades=3, chans=2, pools=2, sens_chans=2, sens_pools=2)


def perturbed(network: torch.nn.Module, fresh: torch.nn.Module, *args, **kwargs) -> torch.nn.Module:
    trainer(network, [RETAIN], [Perturb(fresh, *args, **kwargs), NoTraining()]).run()
    return network


def test_the_first_pattern_that_matches_says_how_far_a_weight_moves():
    network = perturbed(layers(8.0, 8.0, 8.0), layers(1.0, 1.0, 1.0), {"0.*": 0.25, "[01].*": 1.0}, seed=3)
    fresh = layers(1.0, 1.0, 1.0)
    initialise(fresh, seed=3)
    assert network[0].weight.item() == pytest.approx(0.75 * 8 + 0.25 * fresh[0].weight.item())
    assert network[0].bias.item() == pytest.approx(0.25 * fresh[0].bias.item())
    assert network[1].weight.item() == fresh[1].weight.item()
    assert network[2].weight.item() == 8.0


def test_reset_cascades_begin_as_they_were_built_and_the_others_stay():
    network = varnet(0)
    for cascade in network.cascades:
        torch.nn.init.constant_(cascade.dc_weight, 0.3)
    before = copy.deepcopy(network)
    perturbed(network, varnet(1), {"cascades.0.*": 0.0, "cascades.*": 1.0})
    assert [cascade.dc_weight.item() for cascade in network.cascades] == pytest.approx([0.3, 1.0, 1.0])
    for kept in ("sens_net", "cascades.0"):
        now, then = network.get_submodule(kept).state_dict(), before.get_submodule(kept).state_dict()
        assert all(torch.equal(now[name], then[name]) for name in then)


def test_one_seed_gives_the_same_weights_and_another_others():
    seeds = (5, 5, 6)
    first, again, other = (
        perturbed(layers(8.0), layers(1.0), {"*": 1.0}, seed=seed)[0].weight.item() for seed in seeds
    )
    assert first == again != other


class Normalised(torch.nn.Module):
    """A frozen factor, a complex one, and a batch normalisation whose statistics are means of all batches."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = torch.nn.Parameter(torch.full((1,), 5.0), requires_grad=False)
        self.complex = torch.nn.Parameter(torch.full((1,), 3 + 4j))
        self.norm = torch.nn.BatchNorm2d(1, momentum=None)
        self.register_buffer("unsaved", torch.zeros(1), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.norm(self.frozen * self.complex.abs() * image)


def test_buffers_are_mixed_as_weights_are_and_what_is_frozen_is_trained_for_the_run():
    network = Normalised()
    for value in (network.norm.running_mean, network.norm.num_batches_tracked):
        value.fill_(40)
    frozen = []
    engine = trainer(network, [RETAIN], [Perturb(Normalised(), {"norm.running_mean": 0.5, "*": 1.0})])
    engine.add_event_handler("STARTED", lambda: frozen.append(network.frozen.requires_grad))
    engine.add_event_handler("STARTED", lambda: frozen.append(int(network.norm.num_batches_tracked)))
    engine.add_event_handler("STARTED", lambda: frozen.append(float(network.norm.running_mean)))
    engine.run()
    assert frozen == [True, 0, 20.0]
    assert not network.frozen.requires_grad


def test_a_buffer_of_whole_numbers_stays_where_only_a_share_is_new():
    network = Normalised()
    network.norm.num_batches_tracked.fill_(40)
    perturbed(network, Normalised(), {"*": 0.5})
    assert int(network.norm.num_batches_tracked) == 40


def test_the_average_takes_complex_weights_buffers_and_counts():
    network = Normalised()
    average = WeightAverage(decay=0.5, start=0.0)
    seen = []
    engine = trainer(network, [join(RETAIN, RETAIN)] * 2, [])
    engine.add_event_handler("ITERATION_COMPLETED", lambda: seen.append(copy.deepcopy(network.state_dict())))
    average.attach(engine)
    engine.run()
    for name in ("complex", "norm.running_mean", "norm.weight"):
        assert torch.allclose(network.state_dict()[name], (seen[0][name] + seen[1][name]) / 2)
    assert int(network.norm.num_batches_tracked) == 2


def test_a_handler_listed_before_keeps_the_original():
    distillation = RetainDistillation(weight=1.0)
    network = layers(8.0)
    trainer(network, [RETAIN], [distillation, Perturb(layers(1.0), {"*": 1.0}), NoTraining()]).run()
    assert distillation.original.network[0].weight.item() == 8.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SynapticDampening([], [], alpha=0), "'alpha': expected a number above 0, found 0"),
        (lambda: WeightAverage(decay=1.0), r"'decay': expected a number between 0 and 1, found 1.0"),
        (lambda: WeightAverage(start=1.0), r"'start': expected a number from 0 and below 1, found 1.0"),
        (
            lambda: Perturb(layers(1.0), {"*": 1.5}),
            r"'noise': expected a mapping of texts, each to a number from 0 to 1",
        ),
    ],
)
def test_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_perturbation_refuses_a_pattern_without_a_weight_and_the_network_itself():
    with pytest.raises(ValueError, match=r"'noise': expected patterns of Sequential's parameters, found 'last.\*'"):
        perturbed(layers(1.0), layers(1.0), {"last.*": 1.0})
    with pytest.raises(ValueError, match="which matches none"):
        perturbed(layers(1.0), layers(1.0), {"sens_net.*": 0.0, "*": 1.0})
    network = Scale()
    with pytest.raises(ValueError, match="expected a fresh network, found the one that unlearns"):
        perturbed(network, network, {"*": 1.0})
