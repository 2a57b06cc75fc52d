"""Augmentation: known maps, the physics that stays, and random numbers."""

import numpy as np
import pytest
import torch
from ignite.engine import Events
from scipy.ndimage import affine_transform

from scripts.data.augment import Augment, affine
from scripts.data.slices import SliceDataset, Undersample
from scripts.kspace.fourier import fft2c, ifft2c, rss
from scripts.kspace.masks import RandomMask
from scripts.requests.cohorts import Cohorts
from scripts.unlearning import AugmentedSlices
from tests.helpers import Scale, sample, trainer

UNDERSAMPLE = Undersample(RandomMask(acceleration=2, center_fraction=0.2))


def smooth_item() -> dict:
    """A slice of two coils, an ellipse of uneven brightness, 24 x 32."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 32), indexing="ij")
    thing = torch.exp(-4 * (x + 0.2).square() - 6 * (y - 0.1).square())
    images = torch.stack([thing * (1 + 0.5 * x), thing * torch.exp(1j * y)])
    target = rss(images[None])[:, 2:-2, 4:-4]
    return {
        "kspace": fft2c(images),
        "target": target,
        "max_value": target.max(),
        "file": "a.h5",
        "acquired": torch.ones(32, dtype=torch.bool),
    }


def test_against_scipys_map():
    matrix, shift = np.array([[0.9, 0.2], [-0.1, 1.1]]), np.array([0.1, -0.2])
    image = ifft2c(smooth_item()["kspace"])[1]
    centre, half = (np.array(image.shape) - 1) / 2, np.array(image.shape) / 2
    expected = affine_transform(image.numpy(), matrix, centre + shift * half - matrix @ centre, order=3)
    found = affine(image[None], matrix, shift)[0].numpy()
    assert np.abs(found - expected)[3:-3, 3:-3].max() < 0.04 * np.abs(expected).max()


def test_without_motion_the_slice_stays():
    item = smooth_item()
    still = Augment(UNDERSAMPLE, rotation=0, scale=0, shear=0, shift=0, flips=False)
    out = still(item)
    sampled = out["mask"][0, 0, :, 0]
    assert torch.allclose(torch.view_as_complex(out["masked_kspace"]), item["kspace"] * sampled, atol=1e-4)
    assert torch.allclose(out["target"], item["target"], atol=1e-5)


def test_reference_and_kspace_are_of_the_same_object():
    torch.manual_seed(0)
    full = Augment(Undersample(lambda width, seed: np.ones(width, bool)))
    for _ in range(5):
        out = full(smooth_item())
        image = rss(ifft2c(torch.view_as_complex(out["masked_kspace"]))[None])[:, 2:-2, 4:-4]
        assert torch.allclose(image, out["target"], atol=1e-5)


def test_each_visit_differs_and_the_generator_fixes_it():
    augment = Augment(UNDERSAMPLE)
    torch.manual_seed(0)
    first, second = augment(smooth_item()), augment(smooth_item())
    torch.manual_seed(0)
    assert torch.equal(augment(smooth_item())["masked_kspace"], first["masked_kspace"])
    assert not torch.allclose(first["target"], second["target"], atol=1e-3)


def test_a_slice_passed_over_draws_the_same_numbers():
    augment = Augment(UNDERSAMPLE)
    torch.manual_seed(0)
    augment(smooth_item())
    expected = augment(smooth_item())
    torch.manual_seed(0)
    augment.draw("a")
    assert torch.equal(augment(smooth_item())["masked_kspace"], expected["masked_kspace"])


def test_arguments():
    with pytest.raises(ValueError, match="Augment: 'shear': expected a number from 0, found -1"):
        Augment(UNDERSAMPLE, shear=-1)


def test_a_method_switches_it_on_for_its_run(tiny_datalist):
    dataset = SliceDataset(Cohorts(tiny_datalist).test[:1], UNDERSAMPLE)
    handler = AugmentedSlices(dataset, rotation=90.0)
    seen = []
    engine = trainer(Scale(), [sample(1.0, 3.0, False)] * 3, [handler])
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(dataset[0]["target"]))
    before = dataset[0]["target"]
    engine.run()
    assert torch.equal(dataset[0]["target"], before)
    assert not any(torch.allclose(target, before, rtol=0.01) for target in seen)
