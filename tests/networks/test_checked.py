"""What cannot be trained or forgotten with is named before training."""

import logging

import pytest
import torch
from torch import nn

from scripts.kspace.fourier import ifft2c, rss
from scripts.networks import Adapted, ReconUnet, VarNet, check_network, describe_network, may_leave_unused
from scripts.networks.checked import shared_parameters


class Scaled(nn.Module):
    """The zero-filled image times a weight; the cases change one thing each."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3))

    def forward(self, masked_kspace, mask=None):
        return self.weight.mean() * rss(ifft2c(torch.view_as_complex(masked_kspace))).unsqueeze(1)


class NoChannel(Scaled):
    def forward(self, masked_kspace, mask=None):
        return super().forward(masked_kspace)[:, 0]


class Complex(Scaled):
    def forward(self, masked_kspace, mask=None):
        return super().forward(masked_kspace).to(torch.complex64)


class Several(Scaled):
    def forward(self, masked_kspace, mask=None):
        return [super().forward(masked_kspace)]


class Elsewhere(Scaled):
    def forward(self, masked_kspace, mask=None):
        return super().forward(masked_kspace).to("meta")


class Changes(Scaled):
    def forward(self, masked_kspace, mask=None):
        return super().forward(masked_kspace.mul_(2))


class Random(Scaled):
    def forward(self, masked_kspace, mask=None):
        return nn.functional.dropout(super().forward(masked_kspace), 1e-9, training=True)


class NotFinite(Scaled):
    def forward(self, masked_kspace, mask=None):
        return super().forward(masked_kspace) / 0


class Bare(Scaled):
    """A constructor that gives a bare parameter the values of somebody's."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


class Absent(nn.Module):
    def forward(self, masked_kspace, mask=None):
        return rss(ifft2c(torch.view_as_complex(masked_kspace))).unsqueeze(1)


class WantsMask(Scaled):
    def forward(self, masked_kspace, mask):
        return super().forward(masked_kspace)


class Loaded(Scaled):
    def __init__(self) -> None:
        super().__init__()
        self.pretrained = nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3))
        self.pretrained.load_state_dict({k: torch.arange(1.0, v.numel() + 1).reshape(v.shape)
                                         for k, v in self.pretrained.state_dict().items()})  # fmt: skip


class Nothing(Scaled):
    def __init__(self) -> None:
        super().__init__()
        self.weight.requires_grad_(False)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            NoChannel,
            r"NoChannel to give images, torch.float32 \[1, 1, 40, 36\], found torch.float32 \[1, 40, 36\]",
        ),
        (Complex, "Complex to give images, torch.float32 .* found torch.complex64"),
        (Several, "Several to give images, .* found list"),
        (Elsewhere, "Elsewhere to give images on cpu, found meta"),
        (Changes, "Changes to leave k-space and mask as they are, found that it changes them"),
        (Random, "Random to be without chance in evaluation mode, found that it draws random numbers"),
        (WantsMask, "WantsMask to map k-space .* with or without a mask .* found TypeError"),
        (Loaded, r"Loaded that draws its parameters, found 3 that begin alike under two seeds .*pretrained"),
        (Bare, r"Bare that draws its parameters, found 1 that begin alike under two seeds .*\(mean\)"),
        (Nothing, "expected parameters that can be trained, found none in .*Nothing"),
        (Absent, "expected parameters that can be trained, found none in .*Absent"),
        (NotFinite, "NotFinite to give finite images of noise, found NaN or Inf"),
    ],
)
def test_refusals(kind, message):
    with pytest.raises(ValueError, match=message) as refusal:
        check_network(kind(), sizes=[(5, 3, 40, 36)], build=kind)
    assert str(refusal.value).count("\n") == 0


@pytest.mark.parametrize("kind", [Scaled, lambda: VarNet(num_cascades=1, sens_chans=2, sens_pools=2, chans=2, pools=2)])
def test_a_good_one_stays_as_it_is_and_so_does_the_random_state(kind):
    network, state = kind(), torch.get_rng_state()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    check_network(network, sizes=[(2, 40, 36), (3, 40, 36), (2, 33, 47)], build=kind)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network.training


def test_a_size_that_it_cannot_take_is_named():
    kind = lambda: ReconUnet(chans=2, pools=4)  # noqa: E731
    with pytest.raises(ValueError, match=r"k-space \[1, 1, 9, 12, 2\] .* image of 9 x 12 pixels is too small"):
        check_network(kind(), sizes=[(1, 40, 36), (1, 9, 12)], build=kind)


def test_what_begins_alike_by_design_is_named_by_the_adapter():
    def kind(*fixed):
        return Adapted(Loaded(), inputs=["kspace"], fixed=fixed)

    check_network(kind(), build=lambda: kind("network.pretrained.*"))
    with pytest.raises(ValueError, match="Loaded that draws"):
        check_network(kind(), build=kind)


def test_what_is_allowed_is_said(caplog):
    class Odd(Scaled):
        def __init__(self) -> None:
            super().__init__()
            self.again = self.weight
            self.frozen = nn.Parameter(torch.randn(2), requires_grad=False)
            self.register_buffer("window", torch.ones(2), persistent=False)

    caplog.set_level(logging.INFO)
    check_network(Odd(), build=Odd)
    assert "1 parameters of" in caplog.text
    assert "are shared by several parts" in caplog.text
    assert "(again)" in caplog.text
    assert "(frozen)" in caplog.text
    assert "no weights file holds them (window)" in caplog.text
    assert shared_parameters(Odd()) == ["again"]


def test_a_record_knows_the_classes_their_package_and_source():
    found = describe_network(Adapted(VarNet(num_cascades=2, sens_chans=1, sens_pools=1, chans=1, pools=1)))
    names = [entry["class"] for entry in found]
    assert names[:2] == ["scripts.networks.adapted.Adapted", "scripts.networks.varnet.VarNet"]
    assert not any(name.startswith("torch.") for name in names)
    assert {entry["package"] for entry in found} == {"mri-unlearning"}
    assert all(len(str(entry["source_sha256"])) == 64 for entry in found)
    assert next(e["modules"] for e in found if e["class"].endswith("Cascade")) == 2
    mine = describe_network(Scaled())[0]
    assert (mine["package"], mine["version"]) == (None, None)


def test_only_other_peoples_networks_may_leave_parameters_unused():
    assert not may_leave_unused(ReconUnet(chans=1, pools=1))
    assert may_leave_unused(Scaled())
