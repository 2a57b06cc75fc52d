"""The image between the original's and that of the mirror image, as good as the original on an unseen scan."""

import pytest
import torch

from scripts.networks import VarNet, ZeroFilled
from scripts.unlearning import MirrorImage
from scripts.unlearning.gain_term import gain
from scripts.unlearning.mirror_image import blend
from scripts.unlearning.mirror_target import OnMirrorImage
from tests.unlearning.test_mirror_target import DarkLeft, batch_of, engine_of, flipped


def taught(network, batch: dict, held_out=None) -> tuple[torch.Tensor, MirrorImage]:
    """The image that the term compares with, after the trained network has moved on; and the method."""
    method, engine = MirrorImage([batch], held_out, forget_weight=1.0), engine_of(network, batch)
    method.start(engine)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(1.5)
    prediction, label = method.next_forget(engine)
    seen = {}
    engine.loss_function = lambda image, of: seen.update(target=of["target"]) or image.mean((1, 2, 3))
    term = method.term(engine, prediction, label)
    assert term.shape == (2,)
    assert not seen["target"].requires_grad
    return seen["target"], method


@pytest.mark.parametrize("less", [0.3, 1.0, 3.0])
def test_the_blend_has_the_psnr_that_is_asked_for(less):
    torch.manual_seed(0)
    target = torch.rand(3, 1, 14, 16)
    own = torch.rand(3, 1, 18, 20) * 0.1
    own[..., 2:-2, 2:-2] += target
    mirror = own + torch.rand(3, 1, 18, 20) * 0.4
    image = blend(own, mirror, target, torch.full((3,), less))
    zero = torch.zeros_like(own)
    torch.testing.assert_close(gain(own, zero, target) - gain(image, zero, target), torch.full((3,), less))
    shares = (image - mirror) / (own - mirror)
    assert float(shares.min()) > 0
    assert float(shares.max()) < 1
    assert float((shares.amax((1, 2, 3)) - shares.amin((1, 2, 3))).max()) < 1e-3  # one share for each image


def test_the_blend_goes_no_further_than_either_image():
    own, target = torch.full((2, 1, 4, 4), 1.1), torch.ones(2, 1, 4, 4)
    mirror = torch.full((2, 1, 4, 4), 1.2)
    image = blend(own, mirror, target, torch.tensor([-1.0, 20.0]))
    torch.testing.assert_close(image, torch.stack([own[0], mirror[1]]))
    torch.testing.assert_close(blend(own, own, target, torch.tensor([0.0, 1.0])), own)


def test_without_held_out_scans_the_target_is_the_mirror_image_where_that_is_worse():
    batch = batch_of(18, 20)
    batch["target"] = DarkLeft()(batch["masked_kspace"]) + 0.01
    image, method = taught(DarkLeft(), batch)
    zero_filled = ZeroFilled()(batch["masked_kspace"])
    assert method.bias == 0.0
    torch.testing.assert_close(image[..., 1:11], zero_filled[..., 1:11])
    assert not image[..., 11:].any()
    assert not image[..., 0].any()  # its own mirror image


def test_where_held_out_scans_lose_as_much_on_their_mirror_images_nothing_is_to_be_forgotten():
    """Known answer: a network that darkens the left side of every scan, seen or not, has memorised none of them."""
    network, batches = DarkLeft(rows=5), [batch_of(18, 20), batch_of(18, 20)]
    for batch in batches:
        batch["target"] = network(batch["masked_kspace"]) + 0.01
    image, method = taught(network, batches[0], held_out=[batches[1]])
    assert method.bias > 1
    own = network(batches[0]["masked_kspace"])
    zero_filled = ZeroFilled()(batches[0]["masked_kspace"])
    found = [gain(x, zero_filled, batches[0]["target"]) for x in (own, image)]
    assert float((found[0] - found[1]).mean()) == pytest.approx(0.0, abs=0.5)


@pytest.mark.parametrize("dim", [-1, -2])
def test_the_image_is_mirrored_along_the_dimension_that_was_found(dim):
    batch = batch_of(18, 20)
    network = DarkLeft(rows=5 if dim == -2 else 16)  # what costs less along W or along H
    batch["target"] = network(batch["masked_kspace"]) + 0.01
    image, method = taught(network, batch, held_out=[batch])
    assert method.dim == dim
    zero_filled = ZeroFilled()(batch["masked_kspace"])
    own, mirror = network.darkened(zero_filled), flipped(network, zero_filled, dim)
    for i in range(2):
        differ = (own[i] - mirror[i]).abs() > 1e-3
        assert differ.any()
        assert float(((image - mirror)[i] / (own - mirror)[i])[differ].std()) < 1e-3


def test_the_target_is_that_of_the_original_and_has_the_gain_on_the_mirror_image():
    batch = batch_of(18, 20, crop=4)
    network = VarNet(num_cascades=1, sens_chans=2, sens_pools=1, chans=2, pools=1).eval()
    inputs = batch["masked_kspace"], batch["mask"]
    with torch.no_grad():
        own, mirror = network(*inputs), OnMirrorImage(network)(*inputs)
    image, _ = taught(network, batch)
    cropped = [x[..., 2:-2, 2:-2] for x in (own, mirror)]
    errors = [(x - batch["target"]).square().mean((1, 2, 3)) for x in (*cropped, image)]
    torch.testing.assert_close(errors[2], torch.maximum(errors[0], errors[1]), rtol=1e-4, atol=1e-6)
