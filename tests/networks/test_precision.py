"""Half precision inside the U-Nets: how close it stays, what it leaves alone, and where it is refused."""

import copy

import pytest
import torch
import torch.nn.functional as F

from scripts.networks import ReconUnet, VarNet, ZeroFilled, at_precision
from scripts.networks.norm_relu import NormLeakyRelu
from scripts.networks.precision import Conv2d, ConvTranspose2d
from tests.networks.helpers import gradient, make_batch

NETWORKS = {
    "varnet": lambda: VarNet(num_cascades=2, sens_chans=4, sens_pools=2, chans=4, pools=2),
    "unet": lambda: ReconUnet(chans=4, pools=2),
}


@pytest.fixture(params=NETWORKS)
def networks(request):
    """The same weights in single precision and in bf16."""
    torch.manual_seed(0)
    single = NETWORKS[request.param]()
    return single, at_precision(copy.deepcopy(single), "bf16")


def test_image_is_close_and_single_precision(networks):
    single, half = networks
    kspace, mask, _ = make_batch()
    with torch.no_grad():
        expected, found = single(kspace, mask), half(kspace, mask)
    assert found.dtype == torch.float32
    assert 0 < float((found - expected).norm()) < 0.02 * float(expected.norm())  # bf16 rounds by up to 0.4 %


def test_gradient_is_close_finite_and_single_precision(networks):
    expected, found = (gradient(network, *make_batch()) for network in networks)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert float(F.cosine_similarity(found, expected, dim=0)) > 0.97  # untrained weights; trained ones: above 0.998
    assert float(found.norm() / expected.norm()) == pytest.approx(1, abs=0.05)


def test_only_the_unets_are_in_half_precision(networks):
    _, half = networks
    seen = {}

    def note(module, inputs, output):
        seen.setdefault(type(module).__name__, set()).update({inputs[0].dtype, output.dtype})

    for module in half.modules():
        module.register_forward_hook(note)
    kspace, mask, _ = make_batch()
    half(kspace, mask)
    inside = {name: seen.pop(name) for name in ("Conv2d", "ConvTranspose2d", "NormLeakyRelu", "ConvBlock")}
    assert all(types == {torch.bfloat16} for types in inside.values())
    assert seen.keys() & {"VarNet", "ReconUnet", "Unet"}
    assert all(seen[name] <= {torch.float32, torch.complex64} for name in seen.keys() - {"Sequential", "Identity",
               "Dropout2d", "TransposeConvBlock"})  # fmt: skip


@pytest.mark.parametrize("large", [True, False], ids=["large", "small"])
def test_sums_of_the_normalisation_are_in_single_precision(large, monkeypatch):
    """A mean of 50 deviations would lose the image, were it or its deviation rounded to bf16's eight bits."""
    monkeypatch.setattr(NormLeakyRelu, "small", 0 if large else 10**9)
    torch.manual_seed(0)
    x = (torch.randn(2, 3, 32, 32) / 8 + 6.3).bfloat16().requires_grad_()
    weight = torch.randn(2, 3, 32, 32)
    exact = x.detach().double().requires_grad_()
    expected = F.leaky_relu(F.instance_norm(exact), 0.2)
    found = NormLeakyRelu()(x)
    (gradient,) = torch.autograd.grad(found, x, weight.bfloat16())
    (reference,) = torch.autograd.grad(expected, exact, weight.bfloat16().double())
    expected, found = expected.detach(), found.detach()
    assert found.dtype == torch.bfloat16
    assert float((found - expected).norm() / expected.norm()) < 0.004
    assert float((gradient - reference).norm() / reference.norm()) < 0.01


def test_convolutions_round_weights_but_keep_them():
    torch.manual_seed(0)
    for layer in (Conv2d(2, 3, kernel_size=1), ConvTranspose2d(2, 3)):
        x = torch.randn(1, 2, 5, 4).bfloat16()
        found = layer(x)
        assert found.dtype == torch.bfloat16
        expected = copy.deepcopy(layer).bfloat16()(x)
        torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)
        found.float().sum().backward()
        assert layer.weight.dtype == layer.weight.grad.dtype == torch.float32


def test_weights_and_keys_are_those_of_single_precision(networks):
    single, half = networks
    half.load_state_dict(single.state_dict())
    assert all(value.dtype == torch.float32 for value in half.state_dict().values())
    assert copy.deepcopy(half).state_dict().keys() == single.state_dict().keys()


def test_back_to_single_precision_is_exact(networks):
    single, half = networks
    kspace, mask, _ = make_batch()
    assert torch.equal(at_precision(half, "fp32")(kspace, mask), single(kspace, mask))


def test_double_precision_is_left_alone():
    network = VarNet(num_cascades=1, sens_chans=2, sens_pools=1, chans=2, pools=1).double()
    kspace, mask, _ = make_batch()
    assert network(kspace.double(), mask).dtype == torch.float64


@pytest.mark.parametrize(
    ("precision", "network", "message"),
    [
        ("fp16", VarNet, "precision: 'fp16' needs a CUDA device, found 'cpu'; expected fp32 or bf16"),
        ("bf16", ZeroFilled, "precision: 'bf16' needs a network with U-Nets, found ZeroFilled"),
    ],
)
def test_what_cannot_be_is_refused(precision, network, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        at_precision(network(), precision)
