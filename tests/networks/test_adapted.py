"""The adapter: each form of the measurement and of the output, against definitions written out here."""

import copy

import pytest
import torch
from torch import nn

from scripts.networks import Adapted, VarNet, ZeroFilled, load_weights, save_weights
from scripts.networks.adapted import INPUTS, Measurement


class Returns(nn.Module):
    """Keeps what it was given and returns a function of it."""

    def __init__(self, function=lambda *values: values[0]) -> None:
        super().__init__()
        self.function = function
        self.given = ()

    def forward(self, *values):
        self.given = values
        return self.function(*values)


@pytest.fixture
def measured() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    mask = torch.zeros(2, 1, 1, 24, 1, dtype=torch.bool)
    mask[0, ..., 10:14, :] = mask[1, ..., 9:15, :] = mask[..., ::4, :] = True
    return torch.randn(2, 3, 20, 24, 2) * mask, mask


def test_the_sensitivities_have_norm_one_and_are_those_of_the_low_frequencies(measured):
    kspace, mask = measured
    found = Measurement(kspace, mask).complex_maps
    low = torch.zeros(2, 1, 1, 24, 1)
    low[0, ..., 10:14, :] = low[1, ..., 9:15, :] = 1
    values = torch.view_as_complex(kspace * low)
    shifted = torch.fft.ifftshift(values, dim=(-2, -1))
    images = torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=(-2, -1))
    norm = images.abs().square().sum(1, keepdim=True).sqrt()
    assert torch.allclose(found * norm, images, atol=1e-6)
    assert torch.allclose(found.abs().square().sum(1), torch.ones(2, 20, 24), atol=1e-5)


def test_a_single_coil_image_combined_is_the_image(measured):
    kspace, mask = measured
    one = Measurement(kspace[:, :1], mask)
    real, imaginary = one.complex_image.unbind(1)
    assert torch.allclose(torch.hypot(real, imaginary).unsqueeze(1), one.image, atol=1e-6)


SHAPES = {
    "kspace": (2, 3, 20, 24, 2), "mask": (2, 1, 1, 24, 1), "complex_kspace": (2, 3, 20, 24),
    "coil_images": (2, 3, 20, 24), "image": (2, 1, 20, 24), "complex_maps": (2, 3, 20, 24), "maps": (2, 3, 20, 24, 2),
    "complex_image": (2, 2, 20, 24), "deepinv_kspace": (2, 2, 3, 20, 24),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(INPUTS) - {"deepinv_physics"}))
def test_inputs_have_their_shapes(measured, name):
    inner = Returns(lambda value: torch.zeros(2, 20, 24))
    Adapted(inner, inputs=[name])(*measured)
    assert tuple(inner.given[0].shape) == SHAPES[name]


@pytest.mark.parametrize(
    ("output", "inputs", "function"),
    [
        ("kspace", ["kspace"], lambda k: k),
        ("kspace", ["complex_kspace"], lambda k: [k * 0, k]),
        ("image", ["image"], lambda image: image),
        ("image", ["image"], lambda image: (image * 0, image[:, 0])),
        ("complex_image", ["image"], lambda image: torch.polar(image, image)),
        ("complex_image", ["image"], lambda image: torch.cat([0.6 * image, -0.8 * image], dim=1)),
        ("complex_image", ["image"], lambda image: torch.stack([0.6 * image, 0.8 * image], dim=-1)),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"scale": "maximum"}, {"one_by_one": True}])
def test_what_changes_nothing_gives_the_zero_filled_image_whatever_the_form(
    measured, output, inputs, function, settings
):
    network = Adapted(Returns(function), inputs, output, **settings)
    assert torch.allclose(network(*measured), ZeroFilled()(measured[0]), rtol=1e-5, atol=1e-6)


def test_without_a_mask_the_sampled_columns_are_taken(measured):
    inner = Returns(lambda mask: torch.zeros(2, 20, 24))
    Adapted(inner, inputs=["mask"])(measured[0])
    assert torch.equal(inner.given[0], measured[1])


def test_a_scaled_network_is_homogeneous_and_a_standardised_one_sees_mean_0_and_variance_1(measured):
    kspace, mask = measured
    network = Adapted(Returns(lambda image: image + 1), ["image"], scale="maximum")
    assert torch.allclose(network(1e-5 * kspace, mask), 1e-5 * network(kspace, mask))
    assert network.network.given[0].amax(dim=(1, 2, 3)).tolist() == pytest.approx([1.0, 1.0])
    assert bool(torch.isfinite(network(0 * kspace, mask)).all())
    inner = Returns(lambda image: image)
    assert torch.allclose(
        Adapted(inner, ["image"], scale="standardised")(kspace, mask), ZeroFilled()(kspace), atol=1e-5
    )
    assert inner.given[0].mean(dim=(1, 2, 3)).abs().max() < 1e-5
    assert inner.given[0].std(dim=(1, 2, 3)).tolist() == pytest.approx([1.0, 1.0], abs=1e-4)


def test_images_are_padded_and_cropped_again(measured):
    inner = Returns(lambda image: image)
    found = Adapted(inner, ["image"], multiple=16)(*measured)
    assert tuple(inner.given[0].shape) == (2, 1, 32, 32)
    assert torch.equal(found, ZeroFilled()(measured[0]))


def test_weights_load_with_and_without_the_adapters_prefix(tmp_path):
    torch.manual_seed(0)
    bare = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 1))
    adapted = Adapted(copy.deepcopy(bare), inputs=["image"])
    for source in (bare, adapted):
        save_weights(source, tmp_path / "weights.pt")
        for target in (bare, adapted):
            other = copy.deepcopy(target)
            for weight in other.parameters():
                nn.init.constant_(weight, 7.0)
            load_weights(other, tmp_path / "weights.pt")
            assert all(map(torch.equal, other.parameters(), bare.parameters()))


def test_the_inner_network_says_what_is_too_small():
    inner = VarNet(num_cascades=1, sens_chans=1, sens_pools=4, chans=1, pools=4)
    with pytest.raises(ValueError, match="too small for 4 pooling layers"):
        Adapted(inner).check_image_size(8, 8)
    Adapted(nn.Conv2d(1, 1, 1)).check_image_size(1, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": ["picture"]}, r"'inputs': expected a list .*, each one of kspace, mask, .*, found \['picture'\]"),
        ({"output": "picture"}, "'output': expected one of image, .*, found 'picture'"),
        ({"scale": "half"}, "'scale': expected one of none, .*, found 'half'"),
        ({"fixed": ["sens_net.*"]}, r"'fixed': expected patterns of .*, found 'sens_net\.\*'"),
        ({"multiple": 8}, "'scale', 'multiple': expected a network from one image to one image"),
        ({"scale": "standardised", "inputs": ["image", "mask"]}, "'scale', 'multiple'"),
    ],
)
def test_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Adapted(Returns(), **settings)


@pytest.mark.parametrize(
    ("function", "output", "message"),
    [
        (lambda k: {"image": k}, "image", "'output': expected a tensor, found dict"),
        (lambda k: k[:, :, :10, :, 0].sum(1), "image", r"found a tensor of \[2, 10, 24\]"),
        (lambda k: k[..., 0], "complex_image", r"expected complex values.* found \[2, 3, 20, 24\]"),
    ],
)
def test_outputs_that_do_not_fit(measured, function, output, message):
    with pytest.raises(ValueError, match=message):
        Adapted(Returns(function), ["kspace"], output)(*measured)
