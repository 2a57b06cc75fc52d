import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from scripts.data import EquispacedFractionMask, Undersample, inspect_volume
from scripts.evaluation.reconstruct import reconstruct as run_models
from scripts.networks import VarNet, ZeroFilled
from scripts.protocol.viewer import TARGET, choose, viewer_data
from tests.conftest import write_tiny_volume


@pytest.fixture(scope="module")
def reconstruct():
    torch.manual_seed(0)
    models = {"zero-filled": ZeroFilled(), "G": VarNet(num_cascades=1, chans=2, pools=1, sens_chans=2, sens_pools=1)}
    transform = Undersample(EquispacedFractionMask(4, 0.12), seed=0)
    return lambda cohort, volume, slices: run_models(models, cohort, volume, slices, transform)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    root = tmp_path_factory.mktemp("volumes")
    for index in range(4):
        write_tiny_volume(root / f"{index}.h5", index, slices=3)
    return [inspect_volume(root / f"{index}.h5") for index in range(4)]


def test_images_are_those_of_the_models(reconstruct, volumes):
    data = viewer_data([("BTA", volumes[0])], reconstruct, {"G": {"0.h5": 31.0}}, megabytes=1)
    (volume,) = data["volumes"]
    assert (data["models"], data["left_out"]) == ([TARGET, "zero-filled", "G"], 0)
    assert (volume["size"], volume["psnr"]) == ([28, 28], {"G": 31.0})
    assert [entry["number"] for entry in volume["slices"]] == [0, 1, 2]
    scan = reconstruct("BTA", volumes[0], [0, 1, 2])
    for entry, target, image in zip(volume["slices"], scan.target, scan.images["G"], strict=True):
        picture, error = (decode(uri) for uri in entry["images"]["G"])
        np.testing.assert_allclose(picture / 255 * scan.target.max(), image.clip(0, scan.target.max()), atol=1e-6)
        limit = volume["error"] * volumes[0].max_value
        np.testing.assert_allclose(error / 255 * limit, np.abs(image - target).clip(0, limit), atol=limit / 400)
        assert entry["images"][TARGET][1] is None


def test_the_bytes_are_bounded_and_what_is_left_out_is_counted(reconstruct, volumes):
    chosen = choose({"BTA": volumes[:2], "KTA": volumes[2:3], "UA": volumes[3:]})
    assert [(cohort, volume.name) for cohort, volume in chosen] == [
        ("BTA", "0.h5"), ("KTA", "2.h5"), ("BTA", "1.h5"), ("UA", "3.h5")]  # fmt: skip
    whole = viewer_data(chosen, reconstruct, {}, megabytes=1)
    half = viewer_data(chosen, reconstruct, {}, megabytes=size(whole) / 2e6)
    assert size(half) <= size(whole) / 2
    assert half["left_out"] == 12 - sum(len(volume["slices"]) for volume in half["volumes"]) > 0
    assert half["volumes"][0] == whole["volumes"][0]
    assert viewer_data(chosen, reconstruct, {}, megabytes=0)["volumes"] == []


def size(data):
    return sum(
        len(uri or "") for v in data["volumes"] for s in v["slices"] for pair in s["images"].values() for uri in pair
    )


def decode(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
