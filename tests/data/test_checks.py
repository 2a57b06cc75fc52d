"""What is refused before work starts."""

from dataclasses import replace

import h5py
import pytest

from scripts.data.checks import check_volumes
from scripts.data.volumes import inspect_volume
from scripts.kspace.masks import EquispacedFractionMask, RandomMask
from scripts.networks import VarNet
from tests.conftest import write_tiny_volume

NETWORK = VarNet(num_cascades=1, chans=2, pools=2, sens_chans=2, sens_pools=2)
MASK = EquispacedFractionMask(4, 0.12)


@pytest.fixture
def volume(tmp_path):
    write_tiny_volume(tmp_path / "scan.h5", seed=0)
    return inspect_volume(tmp_path / "scan.h5")


def test_good_volume(volume):
    check_volumes([volume], NETWORK, MASK)


def test_mask_impossible_for_the_width(volume):
    with pytest.raises(ValueError, match=r"scan.h5: RandomMask.*the centre alone"):
        check_volumes([volume], NETWORK, RandomMask(12, 0.1))


def test_image_too_small_for_the_pooling(volume):
    network = VarNet(num_cascades=1, chans=2, pools=6, sens_chans=2, sens_pools=2)
    with pytest.raises(ValueError, match=r"scan.h5: .*32"):
        check_volumes([volume], network, MASK)


def test_reference_image_too_small_for_ssim(volume):
    with pytest.raises(ValueError, match="scan.h5: reference image: expected at least 7 x 7 for SSIM, found 6 x 28"):
        check_volumes([replace(volume, target_size=(6, 28))], NETWORK, MASK)


def test_values(volume):
    with h5py.File(volume.path, "r+") as file:
        file["kspace"][1, 0, 0, 0] = float("inf")
    check_volumes([volume], NETWORK, MASK, check_values=False)
    with pytest.raises(ValueError, match="scan.h5: 'kspace', slice 1: expected finite values"):
        check_volumes([volume], NETWORK, MASK)
