"""Networks that a record names: what may be built and what must not."""

import pytest
import torch

from scripts.networks import Adapted
from scripts.networks.from_record import network_from_record

UNET = {
    "_target_": "monai.networks.nets.unet.UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 1,
    "channels": [2, 4], "strides": [2],
}  # fmt: skip
ADAPTED = {"_target_": "scripts.networks.Adapted", "network": UNET, "inputs": ["image"], "multiple": 2}


def test_networks_of_known_packages_with_lists_and_parts():
    network = network_from_record(ADAPTED, "record")
    assert isinstance(network, Adapted)
    assert network(torch.zeros(1, 2, 11, 12, 2)).shape == (1, 1, 11, 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_target_": "os.system"}, "record#network: '_target_': expected one of .* found 'os.system'"),
        ({"_target_": "torch.hub.load"}, "expected one of .* found 'torch.hub.load'"),
        ({"_target_": "scripts.networks.load_weights"}, "expected a network, found 'scripts.networks.load_weights'"),
        ({"_target_": "monai.networks.nets.unet.warnings"}, "expected a network, found"),
        (
            {"_target_": "monai.networks.nets.nothing.UNet"},
            "expected 'monai.*nothing.UNet' to be installed",
        ),
        ({"in_channels": "$__import__('os')"}, r"expected plain values, found in_channels=.\$__import__"),
        ({"channels": ["@network"]}, "expected plain values, found '@network'"),
        ({"_requires_": "@x"}, "expected plain values, found _requires_='@x'"),
        ({"pretrained": "file.pt"}, "expected no argument by which .*UNet reads weights, found pretrained='file.pt'"),
        ({"channles": 3}, "expected the arguments of monai.networks.nets.unet.UNet, found .*channles"),
    ],
)
def test_what_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        network_from_record({**ADAPTED, "network": {**UNET, **change}}, "record")


def test_a_network_of_ones_own_is_built_where_the_user_named_it():
    config = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 1}
    with pytest.raises(ValueError, match="found 'torch.nn.Conv2d'; one of your own is named by an overlay"):
        network_from_record(config, "record")
    assert isinstance(network_from_record(config, "record", named={"torch.nn.Conv2d"}), torch.nn.Conv2d)
