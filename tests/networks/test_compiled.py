"""The compiled network beside the eager one; skipped without a C++ compiler."""

import copy
import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from scripts.networks import VarNet, compiled, load_weights, save_weights

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return VarNet(num_cascades=1, sens_chans=2, sens_pools=1, chans=2, pools=1)


def test_weights_are_saved_with_the_bare_keys(network, tmp_path):
    save_weights(network, tmp_path / "eager.pt")
    same = compiled(network)
    assert same is network
    save_weights(network, tmp_path / "compiled.pt")
    assert (tmp_path / "eager.pt").read_bytes() == (tmp_path / "compiled.pt").read_bytes()
    load_weights(compiled(copy.deepcopy(network)), tmp_path / "eager.pt")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler")
def test_image_and_gradients_equal_the_eager_ones(network):
    kspace = torch.randn(1, 2, 24, 20, 2) * (torch.rand(1, 1, 1, 20, 1) < 0.6)
    other = compiled(copy.deepcopy(network))
    images = [one(kspace) for one in (network, other)]
    for image in images:
        image.square().sum().backward()
    torch.testing.assert_close(images[1], images[0], rtol=1e-4, atol=1e-5)
    for eager, fast in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(fast.grad, eager.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("verb", ["train", "unlearn", "evaluate"])
def test_overlay_adds_to_each_verb(verb):
    configs = Path(__file__).parents[2] / "bundle" / "configs"
    alone = ConfigParser.load_config_files(str(configs / f"{verb}.yaml"))
    overlaid = ConfigParser.load_config_files([str(configs / f"{verb}.yaml"), str(configs / "compile.yaml")])
    assert overlaid == {**alone, "initialize": [*alone["initialize"], "$scripts.networks.compiled(@network)"]}


def test_a_network_with_nothing_to_compile_is_refused():
    with pytest.raises(ValueError, match="compile: expected a network with the project's U-Nets, found Linear"):
        compiled(torch.nn.Linear(1, 1))
