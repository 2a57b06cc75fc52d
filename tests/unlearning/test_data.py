"""Features of volumes by a layer of a network."""

import numpy as np
import pytest
import torch

from scripts.data.slices import Undersample
from scripts.data.volumes import inspect_volume
from scripts.kspace.masks import RandomMask
from scripts.networks import VarNet
from scripts.training import PassCounter
from scripts.unlearning import EncoderFeatures
from tests.conftest import write_tiny_volume

LAYER = "cascades.0.model.unet.conv"


def small() -> VarNet:
    torch.manual_seed(0)
    return VarNet(num_cascades=1, chans=2, pools=2, sens_chans=2, sens_pools=2)


def test_one_vector_a_volume_and_its_cost(tmp_path):
    for seed in (0, 1):
        write_tiny_volume(tmp_path / f"{seed}.h5", seed, slices=3)
    volumes = [inspect_volume(tmp_path / f"{seed}.h5", f"{seed}.h5", {}) for seed in (0, 1)]
    network = small()
    counter = PassCounter(network)
    undersample = Undersample(RandomMask(acceleration=2, center_fraction=0.2), seed=0)
    features = EncoderFeatures(network, LAYER, undersample, slices_per_volume=2, counter=counter)
    vectors = features(volumes)
    assert vectors.shape == (2, 8)
    assert np.isfinite(vectors).all()
    assert not np.allclose(vectors[0], vectors[1])
    assert np.array_equal(vectors, features(volumes))
    assert counter.parts == {"retain selection": {"forward": 8, "backward": 0}}


def test_refusals():
    with pytest.raises(ValueError, match="'layer': expected a module of the network, found 'conv9'"):
        EncoderFeatures(small(), "conv9", lambda item: item)
    with pytest.raises(ValueError, match="'slices_per_volume': expected a whole number from 1, found 0"):
        EncoderFeatures(small(), LAYER, lambda item: item, slices_per_volume=0)
