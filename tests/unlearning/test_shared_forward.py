"""A forward pass for two batches gives what two passes give, and is taken only where it does."""

import pytest
import torch

from scripts.data import prepare_batch
from scripts.networks import VarNet
from scripts.training import PassCounter
from scripts.unlearning import GradientAscent, GradientProjection, MirrorTarget, RetainDistillation, SharedForward
from tests.helpers import squared_error, trainer
from tests.unlearning.columns import Columns, columns, weights_of


class Calls:
    """How many samples each forward pass of a network in training had; its frozen copies do not count."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.sizes: list[int] = []
        network.register_forward_hook(self.count)

    def count(self, module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        if module.training:
            self.sizes.append(len(output))


def batch_of(seed: int, coils: int = 3, width: int = 20, samples: int = 1) -> dict:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(samples, 1, 1, width, 1, generator=generator) < 0.4
    mask[:, :, :, width // 2 - 2 : width // 2 + 2] = True
    kspace = torch.randn(samples, coils, 18, width, 2, generator=generator, dtype=torch.float64)
    return {
        "masked_kspace": kspace * mask,
        "mask": mask,
        "target": torch.rand(samples, 1, 18, width, generator=generator, dtype=torch.float64) + 1,
        "max_value": torch.full((samples,), 2.0, dtype=torch.float64),
        "volume": ["scan"] * samples,
    }


RETAIN = [batch_of(0), batch_of(1, coils=4), batch_of(2), batch_of(3, samples=2)]
FORGET = [batch_of(10), batch_of(11), batch_of(12, width=22), batch_of(13)]
JOINED = [2, 1, 1, 1, 1, 3]  # samples of a pass: the second and third pairs differ in coils and in width


def unlearned(inferer, methods) -> tuple[VarNet, list[int], PassCounter]:
    torch.manual_seed(0)
    network = VarNet(num_cascades=2, sens_chans=2, sens_pools=1, chans=2, pools=1).double()
    calls, counter = Calls(network), PassCounter(network)
    handlers = [counter, *methods(FORGET)]
    trainer(network, RETAIN, handlers, lr=0.01, inferer=inferer, prepare_batch=prepare_batch).run()
    return network, calls.sizes, counter


def all_weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach()


METHODS = {
    "mirror_target": lambda forget: [RetainDistillation(2.0), MirrorTarget(forget)],
    "gradient_ascent": lambda forget: [GradientAscent(forget, forget_weight=0.1)],
}


@pytest.mark.parametrize("method", METHODS)
def test_weights_and_costs_are_those_of_two_passes(method):
    apart, one_by_one, cost_apart = unlearned(None, METHODS[method])
    together, sizes, cost_together = unlearned(SharedForward(), METHODS[method])
    without = unlearned(None, lambda forget: [])[0]
    expected = all_weights(apart)
    assert float((expected - all_weights(without)).abs().max()) > 1e-4  # the forget term counts
    torch.testing.assert_close(all_weights(together), expected, rtol=0, atol=1e-10)
    assert one_by_one == [1, 1, 1, 1, 1, 1, 2, 1]
    assert sizes == JOINED
    assert cost_together.parts == cost_apart.parts


@pytest.mark.parametrize("layer", [torch.nn.BatchNorm2d(1, track_running_stats=False), torch.nn.BatchNorm2d(1)])
def test_samples_that_mix_are_kept_apart(layer):
    network = torch.nn.Sequential(Columns(1.0, 2.0), layer)
    calls = Calls(network)
    trainer(network, [columns((1.0, 2.0))], [GradientAscent([columns((2.0, 1.0))])], inferer=SharedForward()).run()
    assert calls.sizes == [1, 1]


def test_gradient_projection_keeps_them_apart():
    networks = [Columns(1.0, 1.0), Columns(1.0, 1.0)]
    calls = Calls(networks[1])
    for network, inferer in zip(networks, (None, SharedForward()), strict=True):
        handlers = [GradientAscent([columns((2.0, 3.0))]), GradientProjection()]
        trainer(network, [columns((2.0, 1.0))] * 2, handlers, inferer=inferer).run()
    assert weights_of(networks[0]) == weights_of(networks[1])
    assert calls.sizes == [1, 1, 1, 1]


def test_an_offer_is_for_one_network_and_one_pass():
    network, other, batch = Columns(1.0, 1.0), Columns(2.0, 2.0), columns((1.0, 1.0))["image"]
    inferer = SharedForward()
    inferer.offer(network, batch)
    assert len(inferer(batch, other)) == 1
    assert inferer.collect() is None
    inferer.offer(network, batch)
    assert torch.equal(inferer(2 * batch, network), 2 * batch)
    assert torch.equal(inferer.collect(), batch)
    assert inferer.collect() is None
    assert squared_error(inferer(batch, network), {"target": batch}).tolist() == [0.0]
