"""Perturbation of weights: which, how far, towards what, and what stays."""

import copy

import pytest
import torch

from scripts.networks import VarNet
from scripts.unlearning import NoTraining, Perturb, RetainDistillation
from scripts.unlearning.blind_teacher import initialise
from tests.helpers import Scale, sample, trainer

RETAIN = sample(value=1.0, target=3.0, forget=False)


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


def test_weights_of_zero_patterns_become_zero_where_they_are_reset():
    network = perturbed(layers(8.0, 8.0), layers(1.0, 1.0), {"0.*": 0.5, "1.*": 1.0}, zero=["*.weight"])
    assert network[0].weight.item() == pytest.approx(4.0)
    assert network[1].weight.item() == 0.0
    assert network[1].bias.item() != 0.0


def test_reset_cascades_begin_as_data_consistency_alone_and_the_others_stay():
    network = varnet(0)
    for cascade in network.cascades:
        torch.nn.init.constant_(cascade.dc_weight, 0.3)
    before = copy.deepcopy(network)
    noise, zero = {"cascades.0.*": 0.0, "cascades.*": 1.0}, ["cascades.*.up_conv.*.1.*"]
    perturbed(network, varnet(1), noise, zero)
    image = torch.randn(2, 32, 32, dtype=torch.complex64)
    assert [cascade.dc_weight.item() for cascade in network.cascades] == pytest.approx([0.3, 1.0, 1.0])
    # a last convolution of 0 leaves the mean that NormUnet adds back; data consistency does the rest
    refined = network.cascades[1].model(image)
    assert torch.allclose(refined, image.mean(dim=(1, 2), keepdim=True).expand_as(refined), atol=1e-6)
    for kept in ("sens_net", "cascades.0"):
        now, then = network.get_submodule(kept).state_dict(), before.get_submodule(kept).state_dict()
        assert all(torch.equal(now[name], then[name]) for name in then)


def test_one_seed_gives_the_same_weights_and_another_others():
    seeds = (5, 5, 6)
    first, again, other = (
        perturbed(layers(8.0), layers(1.0), {"*": 1.0}, seed=seed)[0].weight.item() for seed in seeds
    )
    assert first == again != other


def test_a_handler_listed_before_keeps_the_original():
    distillation = RetainDistillation(weight=1.0)
    network = layers(8.0)
    trainer(network, [RETAIN], [distillation, Perturb(layers(1.0), {"*": 1.0}), NoTraining()]).run()
    assert distillation.original.network[0].weight.item() == 8.0


def test_arguments():
    with pytest.raises(ValueError, match=r"'noise: \*': expected in \[0, 1\], found 1.5"):
        Perturb(layers(1.0), {"*": 1.5})
    with pytest.raises(ValueError, match=r"'zero': expected patterns of Sequential's parameters, found 'last.\*'"):
        perturbed(layers(1.0), layers(1.0), {"*": 1.0}, zero=["last.*"])
    network = Scale()
    with pytest.raises(ValueError, match="expected a fresh network, found the one that unlearns"):
        perturbed(network, network, {"*": 1.0})
