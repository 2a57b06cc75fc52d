import pytest
import torch

from scripts.networks import VarNet
from scripts.networks.unet import NormUnet
from scripts.networks.varnet import low_frequency_window

SMALL = {"num_cascades": 2, "sens_chans": 2, "sens_pools": 2, "chans": 2, "pools": 2}


def make_mask(width: int, low: int, seed: int = 0) -> torch.Tensor:
    line = torch.rand(width, generator=torch.Generator().manual_seed(seed)) < 0.3
    start = (width - low + 1) // 2
    line[start : start + low] = True
    return line.reshape(1, 1, 1, width, 1)


def make_batch(coils: int, height: int, width: int, lows=(4, 8)) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.cat([make_mask(width, low, seed) for seed, low in enumerate(lows)])
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(lows), coils, height, width, 2, generator=generator) * mask, mask


@pytest.fixture
def network():
    torch.manual_seed(0)
    return VarNet(**SMALL)


def test_published_setting_has_its_parameters_and_names():
    with torch.device("meta"):
        network = VarNet()
        unet = NormUnet(18, 4).unet.state_dict()
        sens_unet = NormUnet(8, 4).unet.state_dict()
    assert sum(p.numel() for p in network.parameters()) == 29_936_966
    expected = {f"sens_net.norm_unet.unet.{key}" for key in sens_unet}
    expected |= {f"cascades.{i}.dc_weight" for i in range(12)}
    expected |= {f"cascades.{i}.model.unet.{key}" for i in range(12) for key in unet}
    assert set(network.state_dict()) == expected
    assert not list(network.buffers())


def expected_window(line: list[int]) -> list[int]:
    centre, width, run = len(line) // 2, len(line), 0
    while centre - run - 1 >= 0 and centre + run < width and line[centre - run - 1] and line[centre + run]:
        run += 1
    count = max(1, 2 * run)
    start = (width - count + 1) // 2
    return [int(start <= column < start + count) for column in range(width)]


@pytest.mark.parametrize("width", [1, 2, 31, 32, 33, 64])
def test_low_frequencies_of_random_masks(width):
    lines = torch.rand(200, width, generator=torch.Generator().manual_seed(width)) < torch.linspace(0, 1, 200)[:, None]
    lines[0], lines[-1] = False, True
    window = low_frequency_window(lines.reshape(200, 1, 1, width, 1))
    assert window.int().tolist() == [expected_window(line) for line in lines.int().tolist()]


@pytest.mark.parametrize(("width", "columns"), [(8, range(8)), (9, range(1, 9))])
def test_low_frequencies_of_a_full_mask(width, columns):
    window = low_frequency_window(torch.ones(1, 1, 1, width, 1, dtype=torch.bool))
    assert window[0].nonzero().flatten().tolist() == list(columns)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 33, 29), (2, 20, 47), (5, 17, 18)])
def test_contract(network, shape):
    kspace, mask = make_batch(*shape)
    out = network(kspace, mask)
    assert out.shape == (2, 1, *shape[1:])
    assert out.dtype == torch.float32
    assert (out >= 0).all()
    assert torch.equal(network(kspace), out)


def test_batch_of_different_masks_equals_one_by_one(network):
    kspace, mask = make_batch(3, 24, 30, lows=(1, 4, 10, 30))
    single = torch.cat([network(kspace[i : i + 1], mask[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(network(kspace, mask), single, rtol=1e-4, atol=1e-5)
    swapped = network(kspace.flip(0), mask.flip(0)).flip(0)
    torch.testing.assert_close(swapped, single, rtol=1e-4, atol=1e-5)


def test_off_centre_extent_and_shared_mask(network):
    kspace, mask = make_batch(2, 20, 32)
    mask = mask[:1] & (torch.arange(32) < 24).reshape(1, 1, 1, 32, 1)
    out = network(kspace * mask, mask)
    torch.testing.assert_close(out, network(kspace * mask, mask.expand(2, -1, -1, -1, -1)))
    assert out.isfinite().all()


@pytest.mark.parametrize("zero", ["coil", "slice", "everything"])
def test_zeros_give_finite_images_and_gradients(network, zero):
    kspace, _ = make_batch(3, 24, 22)
    if zero == "coil":
        kspace[:, 1] = 0
    else:
        kspace[: 1 if zero == "slice" else 2] = 0
    kspace.requires_grad_()
    out = network(kspace)
    out.sum().backward()
    assert out.isfinite().all()
    assert kspace.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    if zero != "coil":
        assert not out[0].any()


def test_zero_coil_changes_nothing(network):
    kspace, mask = make_batch(2, 24, 22)
    padded = torch.cat([kspace, torch.zeros_like(kspace[:, :1])], dim=1)
    torch.testing.assert_close(network(padded, mask), network(kspace, mask), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_scale_equivariance(network, scale):
    kspace, mask = make_batch(3, 24, 22)
    out = network(kspace, mask)
    error = (network(kspace * scale, mask) / scale - out).abs().max() / out.max()
    assert error < 1e-4


def test_data_consistency_alone_keeps_the_measured_samples(network):
    """With a silent refinement every cascade maps the zero-filled image to itself."""
    for cascade in network.cascades:
        torch.nn.init.zeros_(cascade.model.unet.up_conv[-1][1].weight)
        torch.nn.init.zeros_(cascade.model.unet.up_conv[-1][1].bias)
        cascade.model.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    kspace, mask = make_batch(2, 20, 18)
    image = torch.fft.ifft2(torch.fft.ifftshift(torch.view_as_complex(kspace), dim=(-2, -1)), norm="ortho")
    expected = torch.fft.fftshift(image, dim=(-2, -1)).abs().square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(network(kspace, mask), expected, rtol=1e-4, atol=1e-5)


def test_too_small_is_refused_with_the_sizes():
    network = VarNet(num_cascades=1, sens_chans=2, sens_pools=4, chans=2, pools=2)
    network.check_image_size(height=17, width=1)
    with pytest.raises(ValueError, match=r"image of 16 x 12 pixels .* 4 pooling .* longer at least 17"):
        network(torch.zeros(1, 1, 16, 12, 2))


def test_gradient_reaches_every_parameter(network):
    kspace, mask = make_batch(3, 24, 22)
    network(kspace, mask).sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    assert network.cascades[1].dc_weight.grad.abs() > 0
    assert network.sens_net.norm_unet.unet.conv.layers[0].weight.grad.abs().sum() > 0


def test_autocast_keeps_the_transforms_in_single_precision(network):
    kspace, mask = make_batch(2, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(kspace, mask)
    assert out.dtype == torch.float32
    expected = network(kspace, mask)
    assert (out - expected).norm() / expected.norm() < 0.05


def test_coils_a_few_at_a_time_give_the_same_maps(network):
    kspace, mask = make_batch(5, 24, 22)
    together = network(kspace, mask)
    calls = []
    network.sens_net.norm_unet.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    network.sens_net.cached_pixels = 3 * 24 * 22
    apart = network(kspace, mask)
    assert calls == [3, 3, 3, 1]
    torch.testing.assert_close(apart, together, rtol=1e-5, atol=1e-6)
