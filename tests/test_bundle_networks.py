"""A network that is not the project's, from training to an image, by one overlay."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.networks import load_weights
from scripts.networks.from_record import network_from_record
from tests.conftest import write_tiny_volume
from tests.verbs import KNEES, run

pytestmark = [
    pytest.mark.usefixtures("contained"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]
MASK = {"mask#center_fraction": 0.12}
UNET = {"network#network#channels": [4, 8, 16, 32], "network#network#num_res_units": 0}
OVERLAY = "networks/monai_unet.yaml"


@pytest.fixture(scope="module")
def folder(tiny_datalist, tmp_path_factory) -> Path:
    """Trained, given a prior, unlearned and shipped."""
    root = tmp_path_factory.mktemp("networks")
    data = {"datalist": tiny_datalist, "forget_request": KNEES, **MASK, **UNET}
    run("train", OVERLAY, output_dir=str(root / "train"), train_epochs=1, ledger=False, **data)
    prior = {"output_dir": str(root / "prior"), "prior_passes": 8, "train_epochs": 1, "matrix": [40, 36]}
    run("train", "prior.yaml", OVERLAY, **prior, **MASK, **UNET)
    weights = {"weights": str(root / "train" / "original.pt"), "prior": str(root / "prior" / "prior.pt")}
    weights |= {"unlearn_epochs": 1, "train_epochs": 2, "ledger": False, "evaluate_models": False}
    run("unlearn", OVERLAY, output_dir=str(root / "unlearn"), **weights, **data)
    (root / "terms.txt").write_text("made up")
    terms = {"data_source": "Bars on discs.", "data_license": str(root / "terms.txt")}
    run("ship", output_dir=str(root / "ship"), run=str(root / "unlearn"), name="unet", **terms)
    return root


def test_it_forgets_exactly_and_the_record_names_what_was_trained(folder):
    record = json.loads((folder / "unlearn" / "unlearned.json").read_text())
    assert record["forgetting"] == "exact"
    names = {entry["class"]: entry for entry in record["network"]}
    assert {"scripts.networks.adapted.Adapted", "monai.networks.nets.unet.UNet"} <= set(names)
    assert names["monai.networks.nets.unet.UNet"]["package"] == "monai"


def test_the_shipped_bundle_reconstructs_with_its_weights(folder):
    bundle = folder / "ship" / "unet"
    write_tiny_volume(Path("scan.h5"), 70, slices=1)
    run_inference(bundle)
    config = json.loads((bundle / "configs" / "inference.json").read_text())["network_def"]
    del config["_requires_"]
    network = load_weights(network_from_record(config, "test"), folder / "unlearn" / "unlearned.pt").eval()
    kspace = torch.randn(1, 2, 90, 76, 2)  # a program for a network that names no least size begins at 64
    with torch.no_grad():
        exported = torch.export.load(bundle / "models" / "model.pt2").module()
        assert torch.allclose(exported(kspace), network(kspace), rtol=1e-5, atol=1e-6)
    image = nib.load(next(Path("images").rglob("*.nii.gz"))).get_fdata()
    assert np.isfinite(image).all()
    assert image.any()


def run_inference(bundle: Path) -> None:
    """In a process of its own, which finds no code but the bundle's."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", bundle / "configs" / "inference.json"]
    command += ["--bundle_root", bundle, "--dataset_dir", "scan.h5", "--output_dir", "images"]
    environment = {**os.environ, "PYTHONPATH": str(bundle)}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
