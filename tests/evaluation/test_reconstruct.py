"""The loop that reconstructs slices with several models, and the choice of slices."""

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from scripts.data import EquispacedFractionMask, SliceDataset, Undersample, inspect_volume
from scripts.evaluation.reconstruct import measure_models, reconstruct, spread
from scripts.networks import VarNet, ZeroFilled
from tests.conftest import write_tiny_volume

TRANSFORM = Undersample(EquispacedFractionMask(4, 0.12), seed=0)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    root = tmp_path_factory.mktemp("volumes")
    for index in range(3):
        write_tiny_volume(root / f"{index}.h5", index, slices=3, patient_id=f"P{index}")
    return [inspect_volume(root / f"{index}.h5") for index in range(3)]


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    return {"zero-filled": ZeroFilled(), "G": VarNet(num_cascades=1, chans=2, pools=1, sens_chans=2, sens_pools=1)}


def test_images_are_those_of_each_network_alone(volumes, models):
    scan = reconstruct(models, "BTA", volumes[0], [2, 0], TRANSFORM)
    item = SliceDataset([volumes[0]], TRANSFORM)[2]
    with torch.no_grad():
        image = models["G"](item["masked_kspace"][None], item["mask"][None])[0, 0]
    assert (scan.slices, scan.target.shape, scan.masks.shape) == ((2, 0), (2, 28, 28), (2, 30))
    assert (scan.masks[0] == item["mask"].flatten().numpy()).all()
    torch.testing.assert_close(torch.from_numpy(scan.images["G"][0]), image[2:-2, 1:-1])


def test_measures_are_those_of_the_chosen_slices(volumes, models):
    found = measure_models(models, {"KTA": [(volumes[0], 0), (volumes[0], 2), (volumes[1], 1)]}, TRANSFORM)
    assert [(r.model, r.volume, r.slices) for r in found] == [
        ("zero-filled", "0.h5", 2), ("zero-filled", "1.h5", 1), ("G", "0.h5", 2), ("G", "1.h5", 1)]  # fmt: skip
    scan = reconstruct(models, "KTA", volumes[0], [0, 2], TRANSFORM)
    expected = peak_signal_noise_ratio(scan.target, scan.images["G"], data_range=volumes[0].max_value)
    assert found[2].psnr == pytest.approx(expected, abs=1e-4)
    assert found[2].patient_id == "P0"


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (2, [("0.h5", 1), ("1.h5", 1)]),
        (3, [("0.h5", 1), ("1.h5", 1), ("2.h5", 1)]),
        (4, [("0.h5", 1), ("1.h5", 1), ("2.h5", 1), ("0.h5", 0)]),
    ],
)
def test_slices_are_spread_over_the_volumes_from_the_middle(volumes, limit, expected):
    assert [(volume.name, number) for volume, number in spread(volumes, limit)] == expected


def test_a_limit_above_what_there_is_takes_every_slice_once(volumes):
    chosen = [(volume.name, number) for volume, number in spread(volumes, 100)]
    assert sorted(chosen) == [(f"{i}.h5", j) for i in range(3) for j in range(3)]
