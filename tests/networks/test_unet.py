import pytest
import torch

from scripts.kspace.fourier import ifft2c, rss
from scripts.networks import ReconUnet, Unet, ZeroFilled
from scripts.networks.unet import NormUnet, average_pool, minimum_size, standardise


def random_kspace(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 2, generator=torch.Generator().manual_seed(0))


def test_state_dict_keys_and_shapes():
    shapes = {key: tuple(value.shape) for key, value in Unet(2, 3, chans=4, pools=2).state_dict().items()}
    assert shapes == {
        "down_sample_layers.0.layers.0.weight": (4, 2, 3, 3),
        "down_sample_layers.0.layers.4.weight": (4, 4, 3, 3),
        "down_sample_layers.1.layers.0.weight": (8, 4, 3, 3),
        "down_sample_layers.1.layers.4.weight": (8, 8, 3, 3),
        "conv.layers.0.weight": (16, 8, 3, 3),
        "conv.layers.4.weight": (16, 16, 3, 3),
        "up_conv.0.layers.0.weight": (8, 16, 3, 3),
        "up_conv.0.layers.4.weight": (8, 8, 3, 3),
        "up_conv.1.0.layers.0.weight": (4, 8, 3, 3),
        "up_conv.1.0.layers.4.weight": (4, 4, 3, 3),
        "up_conv.1.1.weight": (3, 4, 1, 1),
        "up_conv.1.1.bias": (3,),
        "up_transpose_conv.0.layers.0.weight": (16, 8, 2, 2),
        "up_transpose_conv.1.layers.0.weight": (8, 4, 2, 2),
    }


@pytest.mark.parametrize(("pools", "multiple"), [(1, 1), (2, 1), (3, 1), (1, 16), (4, 16), (5, 16)])
def test_minimum_size_is_the_smallest_that_works(pools, multiple):
    shorter, longer = minimum_size(pools, multiple)
    network = NormUnet(2, pools) if multiple == 16 else Unet(2, 2, 2, pools)

    def run(height: int, width: int) -> None:
        if multiple == 16:
            network(torch.randn(1, height, width, dtype=torch.complex64))
        else:
            network(torch.randn(1, 2, height, width))

    run(shorter, longer)
    run(longer, shorter)
    if longer > 2:  # of two pixels, the variance itself needs both
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            run(shorter, longer - 1)


def test_odd_sizes_off_equals_on_for_multiples():
    image = torch.randn(1, 1, 16, 24)
    mirror, plain = Unet(1, 1, 2, 3), Unet(1, 1, 2, 3, odd_sizes=False)
    plain.load_state_dict(mirror.state_dict())
    torch.testing.assert_close(mirror(image), plain(image))


def test_norm_unet_keeps_a_zero_image_zero():
    x = torch.randn(2, 20, 18, dtype=torch.complex64)
    x[1] = 0
    x.requires_grad_()
    network = NormUnet(2, 2)
    out = network(x)
    out.abs().sum().backward()
    assert not out[1].any()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("shape", [(2, 3, 17, 13), (1, 1, 12, 10), (3, 2, 8, 4)])
def test_recon_unet_contract(shape):
    network, kspace = ReconUnet(chans=2, pools=2), random_kspace(*shape)
    out = network(kspace)
    assert out.shape == (shape[0], 1, *shape[2:])
    assert out.dtype == torch.float32
    torch.testing.assert_close(network(kspace * 1e-5), out * 1e-5, rtol=1e-3, atol=1e-8)


def test_recon_unet_is_the_standardised_zero_filled_image_through_the_unet():
    network, kspace = ReconUnet(chans=2, pools=2), random_kspace(2, 3, 12, 10)
    image = ZeroFilled()(kspace)
    for i in range(2):
        mean, std = image[i].mean(), image[i].std()
        torch.testing.assert_close(
            network(kspace)[i : i + 1], network.unet((image[i : i + 1] - mean) / std) * std + mean
        )


def test_recon_unet_of_an_empty_slice():
    network, kspace = ReconUnet(chans=2, pools=2), torch.zeros(1, 2, 8, 8, 2, requires_grad=True)
    out = network(kspace)
    out.sum().backward()
    assert not out.any()
    assert kspace.grad.isfinite().all()


def test_too_small_is_refused_with_the_sizes():
    with pytest.raises(
        ValueError, match=r"image of 4 x 7 pixels .* shorter side needs at least 4 .* longer at least 8"
    ):
        ReconUnet(chans=2, pools=2)(random_kspace(1, 1, 4, 7))


def test_zero_filled():
    kspace = random_kspace(2, 3, 5, 6)
    expected = rss(ifft2c(torch.view_as_complex(kspace))).unsqueeze(1)
    assert torch.equal(ZeroFilled()(kspace, mask=None), expected)
    assert not list(ZeroFilled().parameters())


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (2, 3)])
def test_average_pool_equals_pytorchs(size):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(average_pool(x), torch.nn.functional.avg_pool2d(x, 2))


def test_standardise_gives_zero_for_a_constant_and_finite_gradients():
    x = torch.stack([torch.randn(5, 4), torch.full((5, 4), 2.0)])[None].requires_grad_()
    standard, mean, std = standardise(x)
    torch.testing.assert_close(standard[0, 0].std(), torch.tensor(1.0))
    assert not standard[0, 1].any()
    torch.testing.assert_close(standard * std + mean, x)
    standard.square().sum().backward()
    assert x.grad.isfinite().all()
