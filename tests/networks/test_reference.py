"""VarNet against its published formulas, written out on the state dict, and against the fastMRI package."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.networks import ReconUnet, VarNet, ZeroFilled

CASES = [(2, 2, 4, 40, 44), (2, 3, 1, 33, 29), (3, 2, 3, 48, 37), (4, 1, 2, 36, 32)]  # pools, B, C, H, W


def transform(x: Tensor, fft) -> Tensor:
    return torch.fft.fftshift(fft(torch.fft.ifftshift(x, dim=(-2, -1)), norm="ortho"), dim=(-2, -1))


def unet(w: dict[str, Tensor], prefix: str, x: Tensor, pools: int) -> Tensor:
    def block(x: Tensor, name: str) -> Tensor:
        for layer in ("0", "4"):
            x = F.conv2d(x, w[f"{prefix}{name}.layers.{layer}.weight"], padding=1)
            x = F.leaky_relu(F.instance_norm(x), 0.2)
        return x

    skips = []
    for level in range(pools):
        x = block(x, f"down_sample_layers.{level}")
        skips.append(x)
        x = F.avg_pool2d(x, 2)
    x = block(x, "conv")
    for level, skip in enumerate(reversed(skips)):
        x = F.conv_transpose2d(x, w[f"{prefix}up_transpose_conv.{level}.layers.0.weight"], stride=2)
        x = F.leaky_relu(F.instance_norm(x), 0.2)
        if x.shape[-1] < skip.shape[-1]:
            x = torch.cat([x, x[..., -2:-1]], dim=-1)
        if x.shape[-2] < skip.shape[-2]:
            x = torch.cat([x, x[..., -2:-1, :]], dim=-2)
        x = block(torch.cat([x, skip], dim=1), f"up_conv.{level}" + (".0" if level == pools - 1 else ""))
    last = f"{prefix}up_conv.{pools - 1}.1"
    return F.conv2d(x, w[f"{last}.weight"], w[f"{last}.bias"])


def cnn(w: dict[str, Tensor], prefix: str, image: Tensor, pools: int) -> Tensor:
    """Complex image (H, W), standardised per part, padded to 16, through the U-Net and back."""
    parts = torch.stack([image.real, image.imag])
    mean, std = parts.mean((1, 2), keepdim=True), parts.std((1, 2), keepdim=True)
    (height, width), pad = image.shape, [-size % 16 for size in image.shape]
    top, left = pad[0] // 2, pad[1] // 2
    padded = torch.zeros(1, 2, height + pad[0], width + pad[1], dtype=parts.dtype)
    padded[0, :, top : top + height, left : left + width] = (parts - mean) / std
    parts = unet(w, prefix, padded, pools)[0, :, top : top + height, left : left + width] * std + mean
    return torch.complex(parts[0], parts[1])


def varnet(w: dict[str, Tensor], measured: Tensor, line: Tensor, low: int, pools: int, cascades: int) -> Tensor:
    """One slice (C, H, W) with mask (W), of which `low` central columns are fully sampled."""
    centre = torch.zeros_like(line)
    start = (len(line) - low + 1) // 2
    centre[start : start + low] = True
    coil_images = transform(measured * centre, torch.fft.ifft2)
    maps = torch.stack([cnn(w, "sens_net.norm_unet.unet.", image, pools) for image in coil_images])
    maps = maps / maps.abs().square().sum(0).sqrt()
    k = measured
    for i in range(cascades):
        combined = (maps.conj() * transform(k, torch.fft.ifft2)).sum(0)
        refined = transform(maps * cnn(w, f"cascades.{i}.model.unet.", combined, pools), torch.fft.fft2)
        k = k - w[f"cascades.{i}.dc_weight"] * line * (k - measured) - refined
    return transform(k, torch.fft.ifft2).abs().square().sum(0).sqrt()


def make_case(pools: int, *shape: int):
    torch.manual_seed(0)
    network = VarNet(num_cascades=3, sens_chans=3, sens_pools=pools, chans=4, pools=pools)
    for i, cascade in enumerate(network.cascades):
        torch.nn.init.constant_(cascade.dc_weight, 0.5 + 0.3 * i)
    batch, _, _, width = shape
    lows = [2 * (i + 2) for i in range(batch)]
    lines = torch.rand(batch, width) < 0.3
    for line, low in zip(lines, lows, strict=True):
        start = width // 2 - low // 2
        line[start : start + low] = True
        line[[start - 1, start + low]] = False
    mask = lines.reshape(batch, 1, 1, width, 1)
    return network, torch.randn(*shape, 2) * mask, mask, lows


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_varnet_equals_its_formulas(case):
    network, kspace, mask, lows = make_case(*case)
    network, kspace = network.double(), kspace.double()

    def reference() -> Tensor:
        slices = zip(torch.view_as_complex(kspace), mask[:, 0, 0, :, 0], lows, strict=True)
        images = [varnet(network.state_dict(), k, line, low, case[0], cascades=3) for k, line, low in slices]
        return torch.stack(images).unsqueeze(1)

    expected = reference()
    assert relative_error(network(kspace, mask), expected) < 1e-10
    assert relative_error(network.float()(kspace.float(), mask), expected) < 3e-5


@pytest.mark.parametrize("size", [(16, 12), (15, 13), (21, 10)])
@torch.no_grad()
def test_recon_unet_equals_its_formulas(size):
    network, kspace = ReconUnet(chans=3, pools=2).double(), torch.randn(1, 2, *size, 2).double()
    image = ZeroFilled()(kspace)
    expected = unet(network.state_dict(), "unet.", (image - image.mean()) / image.std(), 2) * image.std() + image.mean()
    assert relative_error(network(kspace), expected) < 1e-10


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_varnet_equals_fastmri(case):
    models = pytest.importorskip("fastmri.models")
    network, kspace, mask, _ = make_case(*case)
    theirs = models.VarNet(num_cascades=3, sens_chans=3, sens_pools=case[0], chans=4, pools=case[0])
    assert list(theirs.state_dict()) == list(network.state_dict())
    theirs.load_state_dict(network.state_dict())
    assert relative_error(network(kspace, mask)[:, 0], theirs(kspace, mask)) < 3e-5
    found, expected = network.double()(kspace.double(), mask)[:, 0], theirs.double()(kspace.double(), mask)
    assert relative_error(found, expected) < 1e-10


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["RandomMaskFunc", "EquiSpacedMaskFunc", "EquispacedMaskFractionFunc"])
@pytest.mark.parametrize("width", [64, 91, 320, 368])
def test_low_frequencies_equal_fastmri(kind, width):
    subsample = pytest.importorskip("fastmri.data.subsample")
    models = pytest.importorskip("fastmri.models")
    from scripts.networks.varnet import low_frequency_window

    sens_net = models.VarNet(num_cascades=1, sens_chans=2, chans=2).sens_net
    for fraction in (0.0, 0.01, 0.04, 0.08, 0.1):
        for seed in range(5):
            function = getattr(subsample, kind)([fraction], [4 if seed % 2 else 8])
            mask = function((1, 1, width, 2), seed=seed)[0].reshape(1, 1, 1, width, 1) > 0
            start, count = sens_net.get_pad_and_num_low_freqs(mask)
            expected = torch.zeros(1, width, dtype=torch.bool)
            expected[0, start : start + count] = True
            assert torch.equal(low_frequency_window(mask), expected)
