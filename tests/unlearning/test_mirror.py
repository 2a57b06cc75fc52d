"""Targets from mirror images beside the same thing done in image space."""

import math

import pytest
import torch
from monai.engines import SupervisedTrainer

from scripts.data import prepare_batch
from scripts.kspace.fourier import fft2c, ifft2c, mirrored
from scripts.networks import VarNet, ZeroFilled
from scripts.unlearning import MirrorImage, MirrorTarget
from scripts.unlearning.mirror import OnMirrorImage, blend
from scripts.unlearning.targets import gain


def batch_of(height: int, width: int, crop: int = 0) -> dict:
    torch.manual_seed(0)
    kspace = fft2c(torch.randn(2, 3, height, width, dtype=torch.complex64))
    mask = torch.rand(2, 1, 1, width, 1) < 0.4
    mask[:, :, :, width // 2 - 2 : width // 2 + 2] = True
    return {
        "masked_kspace": torch.view_as_real(kspace) * mask,
        "mask": mask,
        "target": torch.rand(2, 1, height - crop, width - crop) + 1,
        "max_value": torch.ones(2),
        "forget": torch.ones(2, dtype=torch.bool),
        "volume": ["one", "two"],
    }


def started(network, batch: dict, held_out=None, seen=None) -> tuple[MirrorTarget, SupervisedTrainer]:
    method = MirrorTarget(forget_loader=[batch], loader=held_out, seen_loader=seen, forget_weight=1.0)
    engine = engine_of(network, batch)
    method.start(engine)
    return method, engine


def engine_of(network, batch: dict) -> SupervisedTrainer:
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[batch],
        network=network,
        optimizer=torch.optim.SGD(torch.nn.ParameterList([torch.zeros(1)]), lr=0.0),
        loss_function=torch.nn.MSELoss(),
        prepare_batch=prepare_batch,
    )


class DarkLeft(torch.nn.Module):
    """The zero-filled image without its left half, and without some of its upper rows: no mirror image is as dark."""

    def __init__(self, rows: int = 0) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, masked_kspace, mask=None):
        return self.darkened(ZeroFilled()(masked_kspace, mask))

    def darkened(self, image):
        image = image.clone()
        image[..., : image.shape[-1] // 2] = 0
        image[..., : self.rows, :] = 0
        return image


@pytest.mark.parametrize(("height", "width", "crop"), [(18, 20, 0), (18, 21, 0), (20, 22, 4)])
def test_goal_is_the_gain_on_the_image_mirrored_in_image_space(height, width, crop):
    batch = batch_of(height, width, crop)
    network = VarNet(num_cascades=1, sens_chans=2, sens_pools=1, chans=2, pools=1).eval()
    method, engine = started(network, batch)
    prediction, label = method.next_forget(engine)
    found = method.term(engine, prediction, label)

    images = ifft2c(torch.view_as_complex(batch["masked_kspace"]))
    reverse = [width // 2 + (width // 2 - i) if width // 2 + (width // 2 - i) < width else 0 for i in range(width)]
    kspace = torch.view_as_real(fft2c(images[..., reverse]))
    with torch.no_grad():
        mirror_image = network(kspace, batch["mask"][..., reverse, :])[..., reverse]
    zero_filled = ZeroFilled()(batch["masked_kspace"])
    expected = gain(prediction, zero_filled, batch["target"]) - gain(mirror_image, zero_filled, batch["target"])
    torch.testing.assert_close(found, expected.abs(), rtol=1e-4, atol=1e-4)


def test_a_network_that_treats_both_sides_alike_has_nothing_to_forget():
    batch = batch_of(18, 20)
    method, engine = started(ZeroFilled(), batch)
    prediction, label = method.next_forget(engine)
    torch.testing.assert_close(method.term(engine, prediction, label), torch.zeros(2), atol=1e-5, rtol=0)


def test_what_holds_for_one_side_only_is_not_to_stay():
    """The left half is dark and so is the network's image of it, but not of its mirror image."""
    batch = batch_of(18, 20)
    zero_filled = ZeroFilled()(batch["masked_kspace"])
    batch["target"] = DarkLeft()(batch["masked_kspace"]) + 0.01
    method, engine = started(DarkLeft(), batch)
    prediction, label = method.next_forget(engine)
    assert float(gain(prediction, zero_filled, batch["target"]).min()) > 20
    with torch.no_grad():
        goal = method.goal(engine, label, zero_filled)
    assert float(goal.max()) < 0  # the mirror image loses the half that matters
    assert math.isclose(float(mirrored(zero_filled)[0, 0, 0, 3]), float(zero_filled[0, 0, 0, 17]))


def test_the_original_stays_what_it_was():
    batch = batch_of(18, 20)
    network = VarNet(num_cascades=1, sens_chans=2, sens_pools=1, chans=2, pools=1)
    method, engine = started(network, batch)
    _, label = method.next_forget(engine)
    zero_filled = ZeroFilled()(batch["masked_kspace"])
    goals = []
    for _ in range(2):
        with torch.no_grad():
            goals.append(method.goal(engine, label, zero_filled))
            for weight in network.parameters():
                weight.mul_(1.5)
    assert torch.equal(*goals)


def test_what_mirror_images_lose_anyway_is_added_to_the_goal():
    """A network that darkens the left side does better on a scan dark on the left than on its mirror image, by heart or
    not: held-out scans of that kind show by how much, and there is nothing left to forget."""
    network, batches = DarkLeft(rows=5), [batch_of(18, 20), batch_of(18, 20)]
    for batch in batches:
        batch["target"] = network(batch["masked_kspace"]) + 0.01
    method, engine = started(network, batches[0], held_out=[batches[1]])
    prediction, label = method.next_forget(engine)
    zero_filled = ZeroFilled()(batches[0]["masked_kspace"])
    plain = gain(prediction, zero_filled, batches[0]["target"])
    losses = [plain - gain(flipped(network, zero_filled, dim), zero_filled, batches[0]["target"]) for dim in (-1, -2)]
    assert method.dim == -2  # five rows are less than the half
    assert method.bias == pytest.approx(float(losses[1].mean()), abs=1e-3)
    assert method.bias > 1
    assert method.scatter == pytest.approx(float(losses[1].std(correction=0)), abs=1e-3)
    with torch.no_grad():
        goal = method.goal(engine, label, zero_filled)
    assert float((plain - goal).mean()) == pytest.approx(0.0, abs=1e-3)


def flipped(network: DarkLeft, zero_filled, dim: int):
    return mirrored(network.darkened(mirrored(zero_filled, dim)), dim)


@pytest.mark.parametrize("dim", [-1, -2])
def test_left_to_right_is_where_held_out_scans_are_their_own_mirror_images(dim, caplog):
    """The image is dark in its first half along one dimension, and symmetric along the other."""

    class Dark(torch.nn.Module):
        def forward(self, masked_kspace, mask=None):
            image = ZeroFilled()(masked_kspace, mask)
            image.transpose(dim, -1)[..., : image.shape[dim] // 2] = 0
            return image

    batch = batch_of(18, 20)
    batch["target"] = Dark()(batch["masked_kspace"]) + 0.01
    caplog.set_level("INFO")
    method, _ = started(Dark(), batch, held_out=[batch])
    assert method.dim == (-2 if dim == -1 else -1)
    assert method.bias == pytest.approx(0.0, abs=1e-4)
    assert f"along {'H' if dim == -1 else 'W'} held-out scans gain" in caplog.text


@pytest.mark.parametrize("memorised", [True, False])
def test_where_mirror_images_do_not_tell_seen_scans_from_unseen_ones_a_warning_says_so(memorised, caplog):
    """A network that has learnt by heart which scans are dark on the left, and one for which all are alike."""
    network = DarkLeft(rows=5)
    batch, held_out, seen = (batch_of(18, 20) for _ in range(3))
    held_out["target"] = ZeroFilled()(held_out["masked_kspace"]) + 0.5
    seen["target"] = network(seen["masked_kspace"]) + 0.01 if memorised else held_out["target"]
    caplog.set_level("INFO")
    started(network, batch, [held_out], [seen])
    assert ("mirror images do not tell scans" in caplog.text) != memorised
    assert "scans that stay gain" in caplog.text


def test_without_held_out_scans_there_is_no_bias_and_an_empty_loader_is_refused():
    batch = batch_of(18, 20)
    assert started(DarkLeft(), batch)[0].bias == 0.0
    assert started(ZeroFilled(), batch, held_out=[batch])[0].bias == pytest.approx(0.0, abs=1e-5)
    with pytest.raises(ValueError, match="mirror target: 'loader': expected held-out scans, found none"):
        started(ZeroFilled(), batch, held_out=[])


def taught(network, batch: dict, held_out=None) -> tuple[torch.Tensor, MirrorImage]:
    """The image that the term compares with, after the trained network has moved on; and the method."""
    method, engine = MirrorImage(forget_loader=[batch], loader=held_out, forget_weight=1.0), engine_of(network, batch)
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
