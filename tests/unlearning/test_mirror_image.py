"""The mirror image as target, beside the same thing done in image space."""

import torch

from scripts.fourier import fft2c, ifft2c
from scripts.networks import VarNet, ZeroFilled
from scripts.unlearning import MirrorImage
from tests.unlearning.test_mirror_target import DarkLeft, batch_of, engine_of


def started(network, batch: dict):
    method, engine = MirrorImage([batch], forget_weight=1.0), engine_of(network, batch)
    method.start(engine)
    return method, engine


def test_the_term_is_the_distance_to_what_the_original_makes_of_the_image_mirrored_in_image_space():
    batch = batch_of(18, 20, crop=4)
    network = VarNet(num_cascades=1, sens_chans=2, sens_pools=1, chans=2, pools=1).eval()
    method, engine = started(network, batch)
    reverse = [(-i) % 20 for i in range(20)]  # about column 10, the centre
    images = ifft2c(torch.view_as_complex(batch["masked_kspace"]))
    kspace = torch.view_as_real(fft2c(images[..., reverse]))
    with torch.no_grad():
        mirror = network(kspace, batch["mask"][..., reverse, :])[..., reverse]
        for weight in network.parameters():  # what is trained moves on, the target does not
            weight.mul_(1.5)
    prediction, label = method.next_forget(engine)
    cropped = mirror[..., 2:-2, 2:-2]
    expected = torch.nn.functional.mse_loss(prediction[..., 2:-2, 2:-2], cropped)
    seen = {}
    engine.loss_function = lambda image, of: (
        seen.update(target=of["target"]) or ((image[..., 2:-2, 2:-2] - of["target"]).square().mean((1, 2, 3)))
    )
    found = method.term(engine, prediction, label)
    torch.testing.assert_close(seen["target"], cropped, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.mean(), expected, rtol=1e-4, atol=1e-5)


def test_what_holds_for_one_side_only_is_not_in_the_target():
    """The network darkens the left side; of the mirror image it darkens the side that is the right one in the end."""
    batch = batch_of(18, 20)
    method, engine = started(DarkLeft(), batch)
    zero_filled = ZeroFilled()(batch["masked_kspace"])
    seen = {}
    engine.loss_function = lambda image, of: seen.update(target=of["target"]) or image.mean((1, 2, 3))
    method.term(engine, *method.next_forget(engine))
    torch.testing.assert_close(seen["target"][..., 1:11], zero_filled[..., 1:11])
    assert not seen["target"][..., 11:].any()
    assert not seen["target"][..., 0].any()  # its own mirror image
