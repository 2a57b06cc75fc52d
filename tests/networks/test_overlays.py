"""The ready overlays of bundle/configs/networks: each network is one that the bundle can train and forget with."""

import warnings
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from scripts.networks import check_network
from scripts.networks.from_record import network_from_record

pytestmark = pytest.mark.filterwarnings("ignore")  # of the packages' own making
FOLDER = Path(__file__).parents[2] / "bundle" / "configs" / "networks"
OVERLAYS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SHAPE = 2, 3, 40, 36


def config_of(name: str) -> dict:
    return ConfigParser.load_config_file(FOLDER / f"{name}.yaml")


def build(name: str) -> torch.nn.Module:
    return ConfigParser(config_of(name)).get_parsed_content("network")


@pytest.fixture(params=OVERLAYS)
def name(request) -> str:
    package = request.param.partition("_")[0]
    if package != "monai":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip(package, reason=f"{package} is not installed")
    return request.param


def measured() -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.zeros(2, 1, 1, 36, 1, dtype=torch.bool)
    mask[:, :, :, ::3] = mask[0, :, :, 15:21] = mask[1, :, :, 14:22] = True
    return torch.randn(*SHAPE, 2, generator=torch.Generator().manual_seed(0)) * mask, mask


def test_it_passes_the_check_before_training(name):
    torch.manual_seed(0)
    check_network(build(name), sizes=[(3, 40, 36), (2, 41, 46), (1, 40, 36)], build=lambda: build(name))


def test_a_step_reaches_its_weights_and_a_batch_is_its_samples(name):
    torch.manual_seed(0)
    network = build(name)
    kspace, mask = measured()
    images = network(kspace, mask)
    assert images.shape == (2, 1, 40, 36)
    images.square().mean().backward()
    reached = [weight for weight in network.parameters() if weight.grad is not None and weight.grad.any()]
    assert sum(weight.numel() for weight in reached) > 0.9 * sum(weight.numel() for weight in network.parameters())
    network.eval()
    with torch.no_grad():
        one = network(kspace[1:], mask[1:])
        assert torch.allclose(network(kspace, mask)[1:], one, rtol=1e-4, atol=1e-4 * one.abs().max())
        small = network(1e-5 * kspace[1:], mask[1:])
        assert torch.allclose(small, 1e-5 * one, rtol=1e-3, atol=1e-3 * small.abs().max())


def test_a_record_may_name_it(name):
    config = config_of(name)["network"]
    assert type(network_from_record(config, "record").network) is type(build(name).network)


def test_every_verb_finds_it_under_its_name(name):
    assert ConfigParser(config_of(name)).get_parsed_content("network_def").network is not None
    assert config_of(name)["network_def"] == "%network"
