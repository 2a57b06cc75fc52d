"""Everything in a shipped bundle that can run is a subject of its certificate."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from scripts.audit.provenance import weights_hashes
from scripts.certificate import checks
from scripts.certificate.checks import FAILS, UNCHECKED, models
from scripts.certificate.verify import verify_certificate
from scripts.networks import VarNet, save_weights
from scripts.run.files import file_sha256
from scripts.shipping.exports import export_network

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
NETWORK = {"num_cascades": 1, "sens_chans": 2, "sens_pools": 2, "chans": 2, "pools": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """What of a shipped bundle its certificate is about."""
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "models").mkdir()
    (folder / "configs").mkdir()
    network = VarNet(**NETWORK).eval()
    save_weights(network, folder / "models" / "model.pt")
    definition = {"network_def": {"_target_": "scripts.networks.VarNet", **NETWORK}}
    (folder / "configs" / "inference.json").write_text(json.dumps(definition))
    shutil.copyfile(CONFIGS / "metadata.json", folder / "configs" / "metadata.json")
    export_network(folder, "model.pt", network)
    return folder


@pytest.fixture
def bundle(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "bundle")


def failed(bundle: Path, made: Path) -> list[str]:
    content = {"weights": {"unlearned": {"sha256": file_sha256(made / "models" / "model.pt")}}}
    return [what for verdict, what in models(content, bundle) if verdict == FAILS]


def test_as_shipped(bundle, made):
    assert failed(bundle, made) == []


def script_of_another_network(bundle: Path) -> None:
    program = torch.jit.load(bundle / "models" / "model.ts")
    with torch.no_grad():
        for parameter in program.parameters():
            parameter.mul_(1.1)
    program.save(bundle / "models" / "model.ts")


def weights_exchanged(bundle: Path) -> None:
    """The genuine ones laid beside, where a reader may take them for what runs."""
    (bundle / "models" / "model.pt").rename(bundle / "models" / "unlearned.pt")
    save_weights(VarNet(**NETWORK), bundle / "models" / "model.pt")


def weights_renamed(bundle: Path) -> None:
    (bundle / "models" / "model.pt").rename(bundle / "models" / "Model.pt")


def original_in_a_folder(bundle: Path) -> None:
    (bundle / "models" / "fp16").mkdir()
    shutil.copyfile(bundle / "models" / "model.ts", bundle / "models" / "fp16" / "model.ts")


def test_a_form_that_is_missing_is_said(bundle, made):
    (bundle / "models" / "model.ts").unlink()
    content = {"weights": {"unlearned": {"sha256": file_sha256(made / "models" / "model.pt")}}}
    said = "subject: no model.ts here: the network has no such form, or it was removed"
    assert (UNCHECKED, said) in list(models(content, bundle))


def test_other_tensors_beside(bundle, made):
    torch_file = pytest.importorskip("safetensors.torch")
    torch_file.save_model(VarNet(**NETWORK), str(bundle / "models" / "model.safetensors"))
    assert failed(bundle, made) == ["subject: model.safetensors holds the tensors of model.pt"]


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (script_of_another_network, "subject: model.ts gives the images of model.pt"),
        (weights_exchanged, "subject: model.pt is what the certificate is about"),
        (weights_renamed, "expected model.pt in models, found none"),
        (original_in_a_folder, "models holds the certified forms alone; fp16; fp16/model.ts"),
    ],
)
def test_what_an_outsider_may_exchange(bundle, made, attack, message):
    attack(bundle)
    assert any(message in what for what in failed(bundle, made))


def test_a_network_that_never_ends(bundle, made, monkeypatch):
    """Ten million cascades: it is given up after a time."""
    definition = {"network_def": {"_target_": "scripts.networks.VarNet", **NETWORK, "num_cascades": 10**7}}
    (bundle / "configs" / "inference.json").write_text(json.dumps(definition))
    monkeypatch.setattr(checks, "MOST_SECONDS", 5)
    assert failed(bundle, made) == ["subject: its networks gave no image within 5 s"]


def test_a_tensor_with_more_values_than_its_file(tmp_path):
    torch.save({"weight": torch.zeros(1).expand(10**12)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="'weight': expected at most the .* bytes of its file"):
        weights_hashes(tmp_path / "model.pt")


def test_what_is_no_file_and_what_is_too_large(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a file"):
        verify_certificate("/dev/zero")
    (tmp_path / "certificate.json").write_bytes(b"[" + b"0," * 5_000_000 + b"0]")
    with pytest.raises(ValueError, match="expected at most 8000000 bytes"):
        verify_certificate(tmp_path / "certificate.json")


@pytest.mark.parametrize("inputs", [[], [1], "all", {"weights": []}, {"weights": {"G": 5}}])
def test_lists_where_objects_are_expected(forger, inputs):
    (forger.audit / "audit.json").write_text(json.dumps({"inputs": inputs}))
    assert forger.failed()
