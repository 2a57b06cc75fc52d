"""Networks compiled by TorchScript and `torch.export`, run on sizes and coil counts not seen before."""

import pytest
import torch

from scripts.networks import ReconUnet, VarNet, ZeroFilled, at_precision
from scripts.shipping.exports import export_program

pytestmark = pytest.mark.filterwarnings("ignore:.*(torch.jit|is deprecated|guard).*")
SMALL = {"num_cascades": 1, "sens_chans": 2, "sens_pools": 1, "chans": 2, "pools": 2}
NETWORKS = {
    "varnet": lambda: VarNet(**SMALL),
    "varnet in bf16": lambda: at_precision(VarNet(**SMALL), "bf16"),
    "varnet with checkpointing": lambda: VarNet(**SMALL, checkpoint_activations=True),
    "unet": lambda: ReconUnet(chans=2, pools=1),
    "zero_filled": ZeroFilled,
}
SHAPES = [(1, 1, 33, 57), (3, 5, 64, 48), (2, 2, 35, 35)]
LARGE = (1, 8, 130, 128)  # more values in a layer than those of which a training keeps the output alone


def make_kspace(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(shape[0], 1, 1, shape[3], 1, generator=generator) < 0.5
    return torch.randn(*shape, 2, generator=generator) * mask


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]().eval()


@torch.no_grad()
def test_torchscript(network, tmp_path):
    torch.jit.save(torch.jit.script(network), tmp_path / "network.ts")
    scripted = torch.jit.load(tmp_path / "network.ts")
    for shape in SHAPES:
        kspace = make_kspace(*shape)
        torch.testing.assert_close(scripted(kspace), network(kspace), rtol=1e-5, atol=1e-6)
        mask = (kspace != 0).any(-1, True).any(2, True).any(1, True)
        torch.testing.assert_close(scripted(kspace, mask), network(kspace), rtol=1e-5, atol=1e-6)


def test_torchscript_refuses_too_small_images():
    scripted = torch.jit.script(VarNet(num_cascades=1, sens_chans=1, sens_pools=4, chans=1, pools=1))
    with pytest.raises(torch.jit.Error, match="image of 16 x 16 pixels is too small"):
        scripted(torch.zeros(1, 1, 16, 16, 2))


@torch.no_grad()
def test_export(network, tmp_path):
    export_program(network, tmp_path / "network.pt2")
    exported = torch.export.load(tmp_path / "network.pt2").module()
    for shape in (*SHAPES, LARGE):
        kspace = make_kspace(*shape)
        torch.testing.assert_close(exported(kspace), network(kspace), rtol=1e-5, atol=1e-6)


def test_an_exported_program_refuses_too_small_images(tmp_path):
    network = ReconUnet(chans=1, pools=2).eval()
    export_program(network, tmp_path / "network.pt2")
    exported = torch.export.load(tmp_path / "network.pt2").module()
    with pytest.raises(ValueError, match="7 x 7 pixels is too small"):
        network(torch.zeros(1, 1, 7, 7, 2))
    with pytest.raises(Exception, match="Expected input at .* to be >= 8, but got 7"):
        exported(torch.zeros(1, 1, 8, 7, 2))
    assert exported(torch.zeros(1, 1, 8, 8, 2)).shape == (1, 1, 8, 8)
