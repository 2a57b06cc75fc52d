"""What a shipped bundle holds, and what is refused."""

import ast
import json
import re
import shutil
import socket
import zipfile
from importlib.metadata import version as installed
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import verify_metadata
from monai.data import load_net_with_metadata

import scripts
from scripts.networks import VarNet, save_weights
from scripts.run.files import file_sha256
from scripts.shipping import assemble
from scripts.shipping.assemble import ship
from scripts.shipping.contents import reached_modules
from scripts.shipping.model_card import HISTORIES, SECTIONS, TERMS
from scripts.shipping.private import PrivateError, _opened
from scripts.shipping.shipment import Shipment
from tests.shipping.conftest import NETWORK

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
SCHEMA = Path(__file__).with_name("metadata_schema.json")


def metadata_of(folder):
    return json.loads((folder / "configs" / "metadata.json").read_text())


def test_layout(shipped):
    names = {path.name for path in shipped.iterdir()}
    assert names == {"LICENSE", "configs", "docs", "manifest.json", "models", "scripts"}
    assert {path.name for path in (shipped / "models").iterdir()} == {
        "model.pt",
        "model.pt2",
        "model.ts",
        "model.safetensors",
    }
    docs = {path.name for path in (shipped / "docs").iterdir()}
    assert docs == {"README.md", "bom.cdx.json", "data_license.txt", "deploy.md", "serve.md"}
    configs = {path.name for path in (shipped / "configs").iterdir()}
    assert configs == {
        "metadata.json",
        "inference.json",
        "serve.json",
        "send.json",
        "logging.conf",
        "router",
        "container",
    }
    assert not list(shipped.rglob("panels.png"))


def test_a_full_bundle_has_what_unlearns_and_ships(shipped_full):
    assert (shipped_full / "mri_unlearning.py").is_file()
    for name in ("train.yaml", "unlearn.yaml", "ship.yaml", "methods/noisy_label.yaml", "router/orthanc.json"):
        assert (shipped_full / "configs" / name).is_file()
    source = Path(scripts.__file__).parent
    everything = {path.relative_to(source) for path in source.rglob("*.*") if path.suffix != ".pyc"}
    assert {
        path.relative_to(shipped_full / "scripts") for path in (shipped_full / "scripts").rglob("*.*")
    } == everything


def test_inference_has_the_modules_that_it_imports_and_no_others(shipped):
    """Each import of a shipped module leads into the bundle; the rooms that reconstruct nothing stay behind."""
    for path in (shipped / "scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                if name.partition(".")[0] == "scripts":
                    place = shipped.joinpath(*name.split("."))
                    assert place.is_dir() or place.with_suffix(".py").is_file(), (path, name)
    rooms = {path.name for path in (shipped / "scripts").iterdir() if path.is_dir()}
    assert rooms == {"data", "inference", "kspace", "networks", "run", "serving", "shipping"}
    assert {path.name for path in (shipped / "scripts" / "shipping").iterdir()} == {"__init__.py", "deploy_app.py"}


def test_imports_are_followed_into_functions_and_beside_the_package(tmp_path):
    for name, text in {
        "house/__init__.py": "",
        "house/a.py": "def later():\n    from .rooms import b\n    return b\n",
        "house/rooms/__init__.py": "import json, own\n",
        "house/rooms/b.py": "class B: pass\n",
        "house/rooms/c.py": "",
        "own.py": "from house import d\n",
        "house/d.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = {path.relative_to(tmp_path).as_posix() for path in reached_modules(["house.a.later"], tmp_path)}
    assert found == {
        "house/__init__.py",
        "house/a.py",
        "house/rooms/__init__.py",
        "house/rooms/b.py",
        "own.py",
        "house/d.py",
    }


def test_the_zip_has_one_top_folder_with_the_same_files(shipped):
    with zipfile.ZipFile(shipped.parent / "tiny_v0.1.0.zip") as file:
        assert file.testzip() is None
        names = file.namelist()
    assert {name.partition("/")[0] for name in names} == {"tiny"}
    files = {path.relative_to(shipped.parent).as_posix() for path in shipped.rglob("*") if path.is_file()}
    assert set(names) == {name for name in files if "__pycache__" not in name}


def test_shipping_twice_gives_equal_bytes(shipped, run_dir, tmp_path, monkeypatch):
    monkeypatch.undo()  # the network is exported anew
    other = shutil.copytree(run_dir, tmp_path / "elsewhere" / "run")
    folder = ship(tmp_path, "tiny", run_dir=other)
    for name in ("model.ts", "model.pt2"):
        assert file_sha256(folder / "models" / name) == file_sha256(shipped / "models" / name)
    name = "tiny_v0.1.0.zip"
    assert file_sha256(tmp_path / name) == file_sha256(shipped.parent / name)


def test_weights_are_those_of_the_run(shipped, run_dir):
    assert file_sha256(shipped / "models" / "model.pt") == file_sha256(run_dir / "unlearned.pt")


@pytest.mark.filterwarnings("ignore:No hash value provided:UserWarning")
def test_metadata_follows_the_schema(shipped, shipped_full, tmp_path):
    metadata = metadata_of(shipped)
    verify_metadata(meta_file=str(shipped_full / "configs" / "metadata.json"), filepath=str(SCHEMA))
    assert metadata_of(shipped_full)["packages_of_the_other_verbs"]["matplotlib"] == installed("matplotlib")
    verify_metadata(meta_file=str(shipped / "configs" / "metadata.json"), filepath=str(SCHEMA))
    for key, value in (("version", "first"), ("supported_apps", None), ("network_data_format", {"inputs": {}})):
        with pytest.raises(ValueError, match="Failed validating against schema"):
            (tmp_path / "metadata.json").write_text(json.dumps({**metadata, key: value}))
            verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(SCHEMA))
    assert metadata["schema"].endswith("meta_schema_20240725.json")
    assert metadata["version"] in metadata["changelog"]
    assert metadata["pytorch_version"] == installed("torch").partition("+")[0]
    assert metadata["required_packages_version"]["h5py"] == installed("h5py")
    assert metadata["eval_metrics"] == {"BTA psnr": 31.5, "BTA ssim": 0.9, "BTA nmse": 0.1}
    assert set(metadata["required_packages_version"]) == {"fire", "h5py", "nibabel", "pytorch-ignite"}


def test_torchscript_carries_its_configs(shipped):
    network, metadata, extra = load_net_with_metadata(
        str(shipped / "models" / "model.ts"), more_extra_files=["inference.json"]
    )
    assert metadata["version"] == "0.1.0"
    config = json.loads(extra["inference.json"])
    assert config["network_def"] == {**NETWORK, "_requires_": "@search_path"}
    assert network(torch.ones(1, 3, 40, 36, 2)).shape == (1, 1, 40, 36)


def test_the_exported_network_names_no_place_of_this_machine(shipped):
    with zipfile.ZipFile(shipped / "models" / "model.pt2") as file:
        members = {name: file.read(name) for name in file.namelist()}
    assert b"scripts.networks.varnet" in members["archive/models/model.json"]
    for name, content in members.items():
        for place in (*Path(scripts.__file__).parents[:-1], Path(torch.__file__).parent):
            assert str(place).encode() not in content, (name, place)


def test_inference_is_almost_free_of_expressions(shipped):
    def expressions(node):
        if isinstance(node, dict):
            return [e for value in node.values() for e in expressions(value)]
        if isinstance(node, list):
            return [e for value in node for e in expressions(value)]
        return [node] if isinstance(node, str) and node.startswith("$") else []

    config = json.loads((shipped / "configs" / "inference.json").read_text())
    plain = {key: value for key, value in config.items() if key not in ("imports", "bundle_root", "search_path")}
    assert expressions(plain) == [
        "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "$@bundle_root + '/models/model.pt'",
        "$@network_def.to(@device)",
    ]


def test_verbs_have_the_network_of_the_run(shipped_full):
    for verb in ("train", "unlearn", "evaluate"):
        text = (shipped_full / "configs" / f"{verb}.yaml").read_text()
        config = yaml.safe_load(text)
        assert config["network"] == NETWORK
        assert config["mask"]["acceleration"] == 8
        assert "models/original.pt'" not in text
    unlearn = yaml.safe_load((shipped_full / "configs" / "unlearn.yaml").read_text())
    assert unlearn["weights"].endswith("/models/model.pt'")


def test_model_card(shipped, shipped_full):
    card = (shipped / "docs" / "README.md").read_text()
    assert "run unlearn" not in card
    assert "run unlearn" in (shipped_full / "docs" / "README.md").read_text()
    titles = [line.lstrip("# ") for line in card.splitlines() if line.startswith("#")]
    assert [title for title in titles if title in SECTIONS] == list(SECTIONS)
    for text in (
        "| method | noisy_label_ft |",
        "| steps | 12 |",
        "31.50",
        "As the run recorded them; no certificate bears them out",
        "retain: 2 volumes, 8 slices",
    ):
        assert text in card
    assert "99.9" not in card  # metrics.json and table.md are anyone's to write
    assert "R7" not in card


@pytest.mark.parametrize(
    ("change", "history"),
    [
        ({}, "It was made to forget chosen scans by an approximate method"),
        ({"forgetting": "exact"}, "It was made to forget chosen scans, exactly"),
        ({"verb": "train", "oracle": True}, "It is an *oracle*"),
        ({"verb": "train", "oracle": False}, "Nothing was forgotten."),
    ],
)
def test_the_card_says_what_the_record_says(run_dir, tmp_path, change, history):
    folder = edited(run_dir, tmp_path, lambda _, record: record.update(change))
    card = (ship(tmp_path / "out", "tiny", run_dir=folder) / "docs" / "README.md").read_text()
    assert [text for text in HISTORIES.values() if text in card] == [
        text for text in HISTORIES.values() if text.startswith(history) or text.endswith(history)
    ]
    assert "Intended use: research. It is not a medical device." in card


def test_the_card_explains_its_words(shipped):
    card = (shipped / "docs" / "README.md").read_text()
    for term in ("retain", "forget", "retain test", "PSNR", "SSIM", "NMSE", "slices forward"):
        assert f"- *{term}*: {TERMS[term]}" in card
    assert "- *zero-filled*" not in card  # which the card does not say


@pytest.mark.parametrize("profile", ["shipped", "shipped_full"])
def test_no_shipped_text_names_a_document_that_is_not_there(request, profile):
    shipped = request.getfixturevalue(profile)
    texts = [*shipped.glob("docs/*.md"), *(shipped / "configs").glob("**/*.*"), *shipped.glob("scripts/**/*.py")]
    for path in texts:
        text = path.read_text()
        for name in re.findall(r"\]\(([\w/.]+)[#)]", text) if path.suffix == ".md" else ():
            assert (path.parent / name).exists(), (path, name)
        for name in re.findall(r"(?<![\w/])docs/\w+\.(?:md|txt)", text):
            assert (shipped / name).exists() or name == "docs/certificate.md", (path, name)
        assert not re.search(r"(?<![\w/])(tests/|\.ci/)\w", text), path


SECRETS = {
    "patient": "MEIER^ANNA", "scan": "ward7/file_MEIER_0815.h5", "request": "withdrawal-MEIER",
    "reason": "asked by Meier",
    "folder": "/data/oncology/meier_study", "host": "scanner-host-17.hospital.example",
}  # fmt: skip


def with_secrets(folder, record):
    """A run whose record holds identifiers in every field that can hold text."""
    volumes = [{"volume": SECRETS["scan"], "bytes": 1, "sha256": "0" * 64}]
    for role in record["data"].values():
        role["volumes"] = volumes
    record["evaluated"] = {"UA": {"slices": 1, "sources": ["phantom"], "volumes": volumes}}
    forget = [{"patient_id": SECRETS["patient"]}, {"kspace": [SECRETS["scan"]]}, {"anatomy": "knee"}]
    record["forget_request"] = {"request_id": SECRETS["request"], "reason": SECRETS["reason"], "forget": forget}
    record["datalist"]["path"] = SECRETS["folder"] + "/datalist.json"
    record["weights_in"] = {"path": SECRETS["folder"] + "/original.pt", "sha256": "2" * 64}
    record["oracle_weights"] = SECRETS["folder"] + "/oracle.pt"
    record["environment"] = {"platform": SECRETS["host"]}
    record["configuration"] |= {"output_dir": SECRETS["folder"], "forget_request": record["forget_request"]}
    for name in ("metrics.csv", "panels.png", "unlearn.log"):
        (folder / name).write_text(" ".join(SECRETS.values()))
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "events").write_text(" ".join(SECRETS.values()))


def test_nothing_that_names_scans_people_or_folders_is_shipped(run_dir, tmp_path):
    folder = edited(run_dir, tmp_path, with_secrets)
    shipped = ship(tmp_path / "out", "tiny", run_dir=folder)
    words = ["meier", "0815", "ward7", "oncology", "scanner-host", str(tmp_path), "/tmp/pytest"]
    words += [name for name in (socket.gethostname(),) if len(name) > 3]
    searched = 0
    for path in [*shipped.rglob("*"), tmp_path / "out" / "tiny_v0.1.0.zip"]:
        if path.is_file():
            for name, content in _opened(path.name, path.read_bytes()):
                searched += 1
                for word in words:
                    assert word.lower() not in name.lower(), (name, word)
                    assert word.lower().encode() not in content, (name, word)
                assert str(Path(scripts.__file__).parent).lower().encode() not in content, name
    assert searched > 200


@pytest.mark.parametrize("field", ["method", "device"])
def test_an_identifier_where_the_card_shows_text_stops_the_ship(run_dir, tmp_path, field):
    def change(folder, record):
        with_secrets(folder, record)
        record[field] = f"by {SECRETS['request'].upper()}"

    folder = edited(run_dir, tmp_path, change)
    with pytest.raises(PrivateError, match=r"docs/README.md: holds 'withdrawal-meier'"):
        ship(tmp_path / "out", "tiny", run_dir=folder)
    assert list((tmp_path / "out").iterdir()) == []


def test_weights_saved_under_a_name_are_saved_anew(run_dir, tmp_path):
    """``torch.save`` writes the stem of a path into the file."""

    def change(folder, record):
        state = torch.load(folder / "unlearned.pt", weights_only=True)
        torch.save(state, folder / "MEIER_0815.pt")
        (folder / "MEIER_0815.pt").replace(folder / "unlearned.pt")
        record["weights_out"]["sha256"] = file_sha256(folder / "unlearned.pt")

    shipped = ship(tmp_path / "out", "tiny", run_dir=edited(run_dir, tmp_path, change))
    assert b"MEIER" not in (shipped / "models" / "model.pt").read_bytes()


def test_a_new_version(run_dir, tmp_path):
    with pytest.raises(ValueError, match="'changelog': expected a line for the new version 0.2.0"):
        ship(tmp_path / "a", "tiny", run_dir=run_dir, version="0.2.0")
    folder = ship(tmp_path / "b", "tiny", run_dir=run_dir, version="0.2.0", changelog="forgets R7")
    assert metadata_of(folder)["changelog"]["0.2.0"] == "forgets R7"
    assert (tmp_path / "b" / "tiny_v0.2.0.zip").is_file()


def test_weights_alone(tmp_path):
    save_weights(VarNet(num_cascades=1, sens_chans=2, sens_pools=1, chans=3, pools=1), tmp_path / "other.pt")
    with pytest.raises(ValueError, match="'data_source', 'data_license': expected a sentence and a text file"):
        ship(tmp_path / "out", "tiny", weights=tmp_path / "other.pt")
    (tmp_path / "terms.txt").write_text("by agreement")
    terms = {"data_source": "Not known.", "data_license": tmp_path / "terms.txt"}
    folder = ship(tmp_path / "out", "tiny", weights=tmp_path / "other.pt", **terms)
    config = json.loads((folder / "configs" / "inference.json").read_text())["network_def"]
    assert (config["chans"], config["pools"]) == (3, 1)
    assert "No results came with these weights." in (folder / "docs" / "README.md").read_text()


def edited(run_dir, tmp_path, change):
    folder = shutil.copytree(run_dir, tmp_path / "edited")
    record = json.loads((folder / "unlearned.json").read_text())
    change(folder, record)
    if (folder / "unlearned.json").exists():
        (folder / "unlearned.json").write_text(json.dumps(record))
    return folder


def no_weights(folder, record):
    (folder / "unlearned.pt").unlink()


def other_weights(folder, record):
    save_weights(VarNet(1, 2, 2, 2, 1), folder / "unlearned.pt")


def other_network(folder, record):
    record["configuration"]["network"]["chans"] = 4


def reference(folder, record):
    record["configuration"]["network"]["chans"] = "@chans"


def own_data(folder, record):
    record["data"]["retain"]["sources"] = ["not stated", "phantom"]


def foreign_network(folder, record):
    record["configuration"]["network"] = {"_target_": "os.system", "command": "touch executed"}


def nested_network(folder, record):
    record["configuration"]["network"]["chans"] = {"_target_": "os.system", "command": "touch executed"}


def foreign_mask(folder, record):
    record["configuration"]["mask"] = {"_target_": "os.system", "command": "touch executed"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder, record: (folder / "unlearned.pt").unlink(),
            "unlearned.pt: expected the weights of a finished run",
        ),
        (other_weights, "unlearned.pt: SHA-256 expected .* the weights were changed after the run"),
        (other_network, "unlearned.pt: weights do not fit VarNet"),
        (reference, "'network': expected plain values, found chans='@chans'"),
        (own_data, "'data_source', 'data_license': expected .* no record states"),
        (foreign_network, "ship: 'network': '_target_': expected one of .* found 'os.system'"),
        (nested_network, "ship: 'network'#chans: '_target_': expected one of .* found"),
        (foreign_mask, "ship: 'mask': '_target_': expected one of .* found 'os.system'"),
    ],
)
def test_bad_runs_are_refused_before_anything_is_written(run_dir, tmp_path, monkeypatch, change, message):
    folder = edited(run_dir, tmp_path, change)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ship(tmp_path / "out", "tiny", run_dir=folder)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "executed").exists()


def test_bad_settings_are_refused(shipped, run_dir, tmp_path):
    with pytest.raises(ValueError, match="'run_dir', 'weights': expected at least one"):
        ship(tmp_path, "tiny")
    with pytest.raises(ValueError, match="'profile': expected full or inference, found 'half'"):
        ship(tmp_path, "tiny", run_dir=run_dir, profile="half")
    with pytest.raises(ValueError, match="'name': expected letters"):
        ship(tmp_path, "../tiny", run_dir=run_dir)
    with pytest.raises(FileExistsError, match="tiny: exists already"):
        ship(shipped.parent, "tiny", run_dir=run_dir)
    with pytest.raises(FileNotFoundError, match="none.txt: 'data_license'"):
        ship(tmp_path, "tiny", run_dir=run_dir, data_license=tmp_path / "none.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["write_zip", "verify_bundle", "export_network"])
def test_a_failed_ship_leaves_nothing(run_dir, tmp_path, monkeypatch, step):
    def fail(*args, **kwargs):
        raise OSError("disk gone")

    monkeypatch.setattr(assemble, step, fail)
    with pytest.raises(OSError, match="disk gone"):
        ship(tmp_path / "out", "tiny", run_dir=run_dir)
    assert list((tmp_path / "out").iterdir()) == []


def test_data_of_ones_own(run_dir, tmp_path):
    folder = edited(run_dir, tmp_path, own_data)
    (tmp_path / "terms.txt").write_text("by agreement")
    settings = {"data_source": "Scans of site B.", "data_license": tmp_path / "terms.txt"}
    bundle = ship(tmp_path / "out", "tiny", run_dir=folder, **settings)
    assert (bundle / "docs" / "data_license.txt").read_text() == "by agreement"
    card = (bundle / "docs" / "README.md").read_text()
    assert "Scans of site B." in card
    assert "hantom" not in (bundle / "configs" / "metadata.json").read_text().replace("built-in phantom", "")
    assert "phantom.py" not in card.partition("## Training")[0]
    assert metadata_of(bundle)["data_source"] == "Scans of site B."


def test_the_source_of_a_network_of_ones_own_goes_along(tmp_path, monkeypatch):
    (tmp_path / "own_module.py").write_text("import torch\n\n\nclass Mine(torch.nn.Linear): pass\n")
    (tmp_path / "own_package" / "parts").mkdir(parents=True)
    for name in ("__init__.py", "parts/__init__.py"):
        (tmp_path / "own_package" / name).write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    named = frozenset({"own_module.Mine", "own_package.parts.Other", "torch.nn.Linear", "scripts.networks.VarNet"})
    folder = tmp_path / "bundle"
    folder.mkdir()
    assemble._copy_sources(folder, Shipment(tmp_path / "weights.pt", NETWORK, named))
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"own_module.py", "own_package/__init__.py", "own_package/parts/__init__.py"}
