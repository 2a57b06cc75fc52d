"""A tiny bundle, shipped once for all tests of the folder."""

import json
import warnings

import pytest
import torch

from scripts.networks import VarNet, save_weights
from scripts.run.files import file_sha256
from scripts.shipping import exports
from scripts.shipping.assemble import ship

NETWORK = {"_target_": "scripts.networks.VarNet", "num_cascades": 1, "sens_chans": 2, "sens_pools": 2, "chans": 2}
NETWORK["pools"] = 2


_programs: dict[bytes, bytes] = {}


@pytest.fixture(autouse=True)
def exported_once(monkeypatch):
    """A network is exported once for all tests, as that takes seconds; ``monkeypatch.undo()`` exports it anew."""
    export = exports.export_program

    def once(network, path):
        key = b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values())
        if key not in _programs:
            export(network, path)
            _programs[key] = path.read_bytes()
        path.write_bytes(_programs[key])

    monkeypatch.setattr(exports, "export_program", once)


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory):
    """What a finished unlearning run leaves, as far as shipping reads it."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    arguments = {key: value for key, value in NETWORK.items() if key != "_target_"}
    save_weights(VarNet(**arguments), folder / "unlearned.pt")
    volumes = [{"volume": "secret_patient.h5", "sha256": "0" * 64}]
    record = {
        "verb": "unlearn",
        "method": "noisy_label_ft",
        "retain_fraction": 0.1,
        "seed": 3,
        "forget_request": {"request_id": "R7", "reason": "asked by Jane Doe", "forget": []},
        "datalist": {"path": "/data/datalist.json", "sha256": "1" * 64},
        "data": {
            "retain": {"slices": 8, "sources": ["phantom"], "volumes": volumes * 2},
            "forget": {"slices": 4, "sources": ["phantom"], "volumes": volumes},
        },
        "cost": {"steps": 12, "forward_slices": 24, "backward_slices": 24, "seconds": 1.5},
        "weights_out": {"sha256": file_sha256(folder / "unlearned.pt")},
        "configuration": {
            "datalist": "$scripts.phantoms.phantom_datalist()",
            "network": NETWORK,
            "mask": {"_target_": "scripts.data.EquispacedMask", "acceleration": 8, "center_fraction": 0.04},
        },
    }
    cohort = {"n": 2, **{name: {"mean": m, "std": 0.1} for name, m in (("psnr", 31.5), ("ssim", 0.9), ("nmse", 0.1))}}
    record["results"] = {"G": {"BTA": cohort}, "unlearned": {"BTA": cohort}}
    (folder / "unlearned.json").write_text(json.dumps(record))
    forged = {"n": 2, "psnr": {"mean": 99.9, "std": 0.5}, "ssim": {"mean": 0.9, "std": 0.1}}
    (folder / "metrics.json").write_text(json.dumps({"unlearned": {"BTA": forged}}))
    (folder / "table.md").write_text("| model | BTA |\n| --- | --- |\n| unlearned | 99.90 |\n")
    (folder / "panels.png").write_bytes(b"picture of a forgotten scan")
    (folder / "audit.json").write_text("{}")
    return folder


def _ship(*arguments, **settings):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.*", DeprecationWarning)
        return ship(*arguments, **settings)


@pytest.fixture(scope="session")
def shipped(run_dir, tmp_path_factory):
    """The folder of the bundle; its zip is beside it."""
    return _ship(tmp_path_factory.mktemp("shipped"), "tiny", run_dir=run_dir)


@pytest.fixture(scope="session")
def shipped_full(run_dir, tmp_path_factory):
    """The same with everything that trains, unlearns and ships."""
    return _ship(tmp_path_factory.mktemp("full"), "tiny", run_dir=run_dir, profile="full")
