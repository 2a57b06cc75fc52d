"""The layer that keeps its output alone, beside PyTorch's two layers."""

import pytest
import torch
import torch.nn.functional as F

from scripts.networks.norm_relu import NormLeakyRelu


@pytest.fixture(params=[0, 10**9], ids=["large", "small"])
def layer(request, monkeypatch):
    """As for large tensors, and as for small ones."""
    monkeypatch.setattr(NormLeakyRelu, "small", request.param)
    return NormLeakyRelu()


def two_layers(x):
    return F.leaky_relu(F.instance_norm(x), 0.2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_output_and_gradient_are_those_of_two_layers(layer, layout):
    torch.manual_seed(0)
    x = torch.randn(3, 4, 7, 6, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    weight = torch.randn_like(x)
    expected, found = two_layers(x), layer(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(found, x, weight)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, x, weight)[0], rtol=0, atol=1e-12)


def test_gradient_by_finite_differences(layer):
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(layer, torch.randn(2, 2, 4, 3, dtype=torch.float64, requires_grad=True))


def test_constant_image_gives_zero_and_a_finite_gradient(layer):
    x = torch.full((1, 1, 4, 4), 3.0, requires_grad=True)
    layer(x).sum().backward()
    assert layer(x).abs().max() == 0
    assert x.grad.isfinite().all()


def test_large_tensors_are_kept_once():
    x = torch.randn(1, 4, 256, 256, requires_grad=True)  # 1 MB
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    def bytes_kept(function):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = F.conv2d(function(F.conv2d(x, weight)), weight)  # noqa: F841 alive while counting
            return sum(kept.values()) - x.nbytes

    weight = torch.randn(4, 4, 1, 1, requires_grad=True)
    assert NormLeakyRelu.small < x.numel()
    assert bytes_kept(NormLeakyRelu()) < 1.1 * x.nbytes < 1.9 * x.nbytes < bytes_kept(two_layers)


def test_single_precision_under_autocast():
    x = torch.randn(1, 4, 256, 256, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        half = F.conv2d(x, torch.randn(4, 4, 1, 1))
        found = NormLeakyRelu()(half)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(found, two_layers(half.float()))
    found.sum().backward()
    assert x.grad.dtype == torch.float32
