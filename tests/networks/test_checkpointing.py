"""Activations computed again instead of kept: the same gradients, in less memory."""

import copy

import pytest
import torch

from scripts.networks import VarNet, at_precision
from tests.networks.helpers import gradient, make_batch

SMALL = {"num_cascades": 3, "sens_chans": 4, "sens_pools": 2, "chans": 4, "pools": 2}


@pytest.fixture(params=["fp32", "bf16"])
def networks(request):
    """The same weights without and with checkpointing."""
    torch.manual_seed(0)
    kept, again = VarNet(**SMALL), VarNet(**SMALL, checkpoint_activations=True)
    again.load_state_dict(kept.state_dict())
    for network in (kept, again):
        network.sens_net.cached_pixels = 40 * 44  # one coil at a time
    return [at_precision(network, request.param) for network in (kept, again)]


def test_gradients_are_those_without(networks):
    kept, again = networks
    assert torch.equal(gradient(kept, *make_batch()), gradient(again, *make_batch()))


def test_less_is_kept_for_the_gradient(networks):
    kspace, mask, _ = make_batch()

    def bytes_kept(network):
        weights = {weight.data_ptr() for weight in network.parameters()}
        kept = {}

        def keep(tensor):
            if tensor.data_ptr() not in weights:
                kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            image = network(kspace, mask)  # noqa: F841 alive while counting
            return sum(kept.values())

    kept, again = networks
    assert bytes_kept(again) < bytes_kept(kept) / 3


def test_without_gradients_nothing_is_computed_twice(networks):
    _, again = networks
    calls = []
    for cascade in again.cascades:
        cascade.register_forward_pre_hook(lambda *_: calls.append(1))
    kspace, mask, label = make_batch()
    with torch.no_grad():
        image = copy.deepcopy(again)(kspace, mask)
    assert len(calls) == len(again.cascades)
    gradient(again, kspace, mask, label)
    assert len(calls) == 3 * len(again.cascades)
    torch.testing.assert_close(image, again(kspace, mask))
