"""From training to a bundle that reconstructs where this repository is not installed."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.data.volumes import inspect_volume, read_slice
from scripts.kspace.fourier import center_crop
from scripts.networks import VarNet, load_weights
from scripts.run.files import file_sha256
from tests.conftest import write_tiny_volume
from tests.shipping.search import REQUEST, WORDS, found_in, leave_traces, naming_datalist
from tests.verbs import SMALL, run

pytestmark = pytest.mark.usefixtures("contained")

SHIPPED = "tiny"
NETWORK = {"num_cascades": 1, "chans": 4, "pools": 2, "sens_chans": 4, "sens_pools": 2}
# what the Model Zoo's checks and MONAI's own entry points do with a bundle, with nothing but the bundle's path
CHECKS = """
import json, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
bundle, kspace, image = (Path(argument) for argument in sys.argv[1:])
try:
    import scripts
    sys.exit(f"{scripts.__file__}: expected no package of this name")
except ModuleNotFoundError:
    pass
import torch, monai.bundle
names = {"meta_file": str(bundle / "configs/metadata.json"), "config_file": str(bundle / "configs/inference.json")}

masked = torch.load(kspace, weights_only=True)
with torch.no_grad():  # torch.export's program needs neither MONAI nor the bundle's code
    exported = torch.export.load(bundle / "models/model.pt2").module()(masked)
assert "scripts" not in sys.modules

metadata = json.loads((bundle / "configs/metadata.json").read_text())
assert metadata["version"] in metadata["changelog"]
root = {"bundle_root": str(bundle)}
for config in filter(Path.is_file, (bundle / "configs/inference.json", bundle / "configs/train.yaml")):
    monai.bundle.verify_net_in_out("network_def", **root, **{**names, "config_file": str(config)})
monai.bundle.ckpt_export("network_def", filepath="again.ts", ckpt_file=str(bundle / "models/model.pt"), **root, **names)

# with the bundle's folder on Python's path, as in a run from that folder, nothing needs bundle_root
sys.path.insert(0, str(bundle))
workflow = monai.bundle.create_workflow("ConfigWorkflow", config_file=names["config_file"], workflow_type="infer")
assert workflow.check_properties() == []
assert Path(workflow.bundle_root) == bundle.absolute(), workflow.bundle_root

network = monai.bundle.load(bundle.name, bundle_dir=str(bundle.parent), workflow_type="inference", device="cpu")
scripted, _, extra = monai.bundle.load(
    bundle.name, bundle_dir=str(bundle.parent), load_ts_module=True, config_files=["inference.json"], device="cpu")
assert json.loads(extra["inference.json"])["network_def"]
with torch.no_grad():
    images = [model.eval()(masked) for model in (network, scripted, torch.jit.load("again.ts"))]
for other in (*images[1:], exported):
    torch.testing.assert_close(other, images[0], rtol=1e-5, atol=1e-9)
torch.save(images[0], image)
import scripts
assert Path(scripts.__file__).is_relative_to(bundle.absolute()), scripts.__file__
"""


@pytest.fixture(scope="session")
def naming(tmp_path_factory) -> str:
    """The datalist of data that name somebody wherever they can."""
    return naming_datalist(tmp_path_factory.mktemp("oncology"))


@pytest.fixture(scope="session")
def shipped(naming, tmp_path_factory) -> Path:
    """Trained, unlearned and shipped by the verbs; the zip is unpacked elsewhere."""
    root = tmp_path_factory.mktemp("oncology-chain")
    settings = {"datalist": naming, "forget_request": REQUEST, **SMALL}
    run("train", output_dir=str(root / "train"), train_epochs=1, **settings)
    weights = {"weights": str(root / "train" / "original.pt"), "unlearn_epochs": 1}
    run("unlearn", output_dir=str(root / "unlearn"), **weights, **settings)
    (root / "terms.txt").write_text("made up")
    terms = {"data_source": "Bars on discs.", "data_license": str(root / "terms.txt")}
    run("ship", output_dir=str(root / "ship"), run=str(root / "unlearn"), name=SHIPPED, **terms)
    shutil.copyfile(root / "unlearn" / "unlearned.pt", root / "unlearned.pt")
    with zipfile.ZipFile(next((root / "ship").glob("*.zip"))) as file:
        file.extractall(root / "elsewhere")
    return root / "elsewhere" / SHIPPED


@pytest.fixture(scope="session")
def certified(shipped, naming) -> Path:
    """The same run, audited and shipped with its certificate."""
    root = shipped.parents[1]
    quick = {"relearning_steps": 0, "statistics#samples": 200, "check_values": False}
    run("audit", run=str(root / "unlearn"), output_dir=str(root / "audit"), **quick)
    for folder in ("unlearn", "audit"):
        leave_traces(root / folder)
    terms = {"data_source": "Bars on discs.", "data_license": str(root / "terms.txt"), "audit_dir": str(root / "audit")}
    run("ship", output_dir=str(root / "certified"), run=str(root / "unlearn"), name="certified", **terms)
    shutil.copyfile(root / "train" / "original.pt", root / "other.pt")
    return root / "certified" / "certified"


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for seed, slices in enumerate((2, 3)):
        write_tiny_volume(folder / f"scan_{seed}.h5", 70 + seed, slices=slices)
    return folder


def stranger(*arguments, cwd) -> subprocess.CompletedProcess:
    """Run Python with the installed packages and without this repository, which is installed by a .pth file.

    Such files are read by the module `site`, which -S leaves out; the packages are then given as plain folders.
    """
    folders = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    here = Path(__file__).resolve().parent.parent
    folders += [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and Path(p).resolve() != here]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(folders)), "PYTHONNOUSERSITE": "1"}
    command = [sys.executable, "-S", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@torch.no_grad()
def expected_volume(path: Path, weights: Path) -> np.ndarray:
    """The source's reconstruction of a fully sampled file, (slices, h, w)."""
    network, volume = load_weights(VarNet(**NETWORK), weights).eval(), inspect_volume(path)
    slices = [torch.view_as_real(torch.from_numpy(read_slice(volume, i)[0]))[None] for i in range(volume.num_slices)]
    return np.stack([center_crop(network(kspace), volume.target_size)[0, 0].numpy() for kspace in slices])


def test_reconstructs_in_a_strange_environment(shipped, data, tmp_path):
    settings = ["--dataset_dir", data, "--output_dir", tmp_path / "out", "--formats", "['nifti','dicom']"]
    config = ["--config_file", shipped / "configs" / "inference.json"]
    for cwd, root in ((tmp_path, ["--bundle_root", shipped]), (shipped, [])):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        done = stranger("-m", "monai.bundle", "run", *config, *root, *settings, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "2/2" in done.stderr  # the progress bar
    for path in sorted(data.iterdir()):
        image = nib.load(tmp_path / "out" / f"{path.stem}.nii.gz").get_fdata(dtype=np.float32).transpose(2, 1, 0)
        expected = expected_volume(path, shipped.parents[1] / "unlearned.pt")
        np.testing.assert_allclose(image, expected, rtol=1e-5, atol=1e-5 * expected.max())
        assert len(list((tmp_path / "out" / f"{path.stem}_dicom").iterdir())) == len(expected)


def test_monai_and_the_model_zoo_accept_it(shipped, tmp_path):
    (tmp_path / "check.py").write_text(CHECKS)
    kspace = torch.randn(2, 3, 40, 36, 2, generator=torch.Generator().manual_seed(0))
    torch.save(kspace, tmp_path / "kspace.pt")
    arguments = [shipped, tmp_path / "kspace.pt", tmp_path / "image.pt"]
    done = stranger("-P" if sys.version_info >= (3, 11) else "-s", tmp_path / "check.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    with torch.no_grad():
        expected = load_weights(VarNet(**NETWORK), shipped.parents[1] / "unlearned.pt").eval()(kspace)
    image = torch.load(tmp_path / "image.pt", weights_only=True)
    torch.testing.assert_close(image, expected, rtol=1e-5, atol=1e-6)


def test_the_certificate_verifies_inside_the_bundle(certified, tmp_path):
    """Nothing but the bundle is at hand, and nothing fails."""
    bundle = shutil.copytree(certified, tmp_path / "bundle")
    assert sorted(path.name for path in (bundle / "docs").glob("certificate*")) == [
        "certificate.json",
        "certificate.md",
    ]
    command = ["-m", "scripts.certificate.verify", "docs/certificate.json"]
    done = stranger(*command, cwd=bundle)
    assert done.returncode == 2, done.stdout + done.stderr
    assert ", 0 fail, " in done.stdout
    assert "holds:       subject: model.pt is what the certificate is about" in done.stdout
    assert "holds:       verdict follows" in done.stdout
    assert "unsigned" in done.stdout
    shutil.copyfile(certified.parents[1] / "other.pt", bundle / "models" / "model.pt")
    done = stranger(*command, cwd=bundle)
    assert done.returncode == 1
    assert "FAILS:       subject: model.pt" in done.stdout


def test_nothing_that_leaves_names_anybody(certified):
    """The data, the request and the folders name people wherever they can; so does what lies beside the run."""
    root = certified.parents[1]
    words = (*WORDS, str(Path(__file__).parent.parent).lower(), *(h for h in (socket.gethostname(),) if len(h) > 3))
    leaving = [*certified.rglob("*"), *(root / "certified").glob("*.zip")]
    assert [what for path in leaving if path.is_file() for what in found_in(path, words)] == []
    assert not {path.suffix for path in leaving} & {".png", ".dcm", ".npz", ".gz", ".key", ".log", ".jsonl"}
    certificate = json.loads((certified / "docs" / "certificate.json").read_text())
    assert certificate["predicate"]["audit"]["measures"]["subgroups"][0]["group"] == "brain"


@pytest.mark.parametrize(
    "name", ["named.png", "named.npz", "named.pt", "named.log.gz", "template.dcm", "tensorboard", "unlearned.json"]
)
def test_the_search_finds_what_stays_behind(certified, name):
    path = certified.parents[1] / "unlearn" / name
    files = list(path.iterdir()) if path.is_dir() else [path]
    assert any(found_in(file, WORDS) for file in files)


def test_the_certified_bundle_shipped_twice_has_equal_bytes(certified, tmp_path):
    root = certified.parents[1]
    terms = {"data_source": "Bars on discs.", "data_license": str(root / "terms.txt"), "audit_dir": str(root / "audit")}
    run("ship", output_dir=str(tmp_path / "again"), run=str(root / "unlearn"), name="certified", **terms)
    (first,), (second,) = ((folder).glob("*.zip") for folder in (root / "certified", tmp_path / "again"))
    assert first.read_bytes() == second.read_bytes()


def test_a_full_bundle_ships_again_where_nothing_else_is_installed(shipped, tmp_path):
    root = shipped.parents[1]
    terms = {"data_source": "Bars on discs.", "data_license": str(root / "terms.txt")}
    run("ship", output_dir=str(tmp_path / "full"), run=str(root / "unlearn"), name="full", profile="full", **terms)
    settings = ["--weights", "models/model.pt", "--output_dir", tmp_path / "again", "--name", "again"]
    settings += ["--data_source", "Bars on discs.", "--data_license", root / "terms.txt"]
    command = ["-m", "monai.bundle", "run", "ship", "--config_file", "configs/ship.yaml", *settings]
    done = stranger(*command, cwd=tmp_path / "full" / "full")
    assert done.returncode == 0, done.stdout + done.stderr
    again = tmp_path / "again" / "again"
    assert file_sha256(again / "models" / "model.pt") == file_sha256(root / "unlearned.pt")
    assert {path.relative_to(again) for path in (again / "scripts").rglob("*.py")} == {
        path.relative_to(shipped) for path in (shipped / "scripts").rglob("*.py")
    }


def test_a_certificate_of_other_weights_is_not_shipped(certified, tmp_path):
    root = certified.parents[1]
    terms = {"data_source": "Bars on discs.", "data_license": str(root / "terms.txt")}
    with pytest.raises(RuntimeError) as error:
        run("ship", output_dir=str(tmp_path), weights=str(root / "other.pt"), audit_dir=str(root / "audit"), **terms)
    assert "expected the certificate of" in root_of(error.value)
    assert "subject: other.pt" in root_of(error.value)


@pytest.mark.parametrize(("verb", "config"), [("run", "inference.json"), ("serve", "serve.json")])
def test_every_verb_refuses_a_changed_bundle(shipped, tmp_path, verb, config):
    bundle = shutil.copytree(shipped, tmp_path / "bundle")
    with open(bundle / "docs" / "README.md", "a") as file:
        file.write("x")
    command = ["-m", "monai.bundle", "run", verb, "--config_file", f"configs/{config}"]
    done = stranger(*command, cwd=bundle)
    assert done.returncode != 0
    assert "docs/README.md: changed" in done.stdout + done.stderr


def test_a_changed_bundle_is_not_loaded(shipped, data, tmp_path):
    bundle = shutil.copytree(shipped, tmp_path / "bundle")
    with open(bundle / "models" / "model.pt", "r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"x")
    with pytest.raises(RuntimeError) as error:
        infer(bundle, data, tmp_path / "out")
    assert "models/model.pt: changed" in root_of(error.value)
    assert not (tmp_path / "out").exists()


def infer(bundle: Path, data: Path, output: Path, **overrides) -> None:
    import warnings

    import monai.bundle

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "parsing config_file", UserWarning)
        paths = list(sys.path)
        try:
            config = str(bundle / "configs" / "inference.json")
            monai.bundle.run(config_file=config, dataset_dir=str(data), output_dir=str(output), **overrides)
        finally:
            sys.path[:] = paths


def root_of(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def test_retrospective_undersampling(shipped, data, tmp_path):
    mask = {"_target_": "scripts.data.EquispacedFractionMask", "acceleration": 4, "center_fraction": 0.12}
    infer(shipped, data, tmp_path / "a", retrospective_mask=mask)
    infer(shipped, data, tmp_path / "b")
    images = [nib.load(tmp_path / name / "scan_0.nii.gz").get_fdata() for name in "ab"]
    assert not np.allclose(*images)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"formats": ["png"]}, "'formats': expected one of nifti, dicom"),
        ({"weights": "nowhere.pt"}, "nowhere.pt: no such weights file"),
        ({"formts": ["nifti"]}, "override key 'formts': not in the configuration; did you mean 'formats'"),
    ],
)
def test_bad_input_is_refused(shipped, data, tmp_path, overrides, message):
    with pytest.raises(RuntimeError) as error:
        infer(shipped, data, tmp_path / "out", **overrides)
    assert message in root_of(error.value)
    assert not (tmp_path / "out").exists()


def test_the_source_bundle_infers_with_given_weights(shipped, data, tmp_path):
    source = Path(__file__).parent.parent / "bundle"
    overrides = {f"network_def#{key}": value for key, value in NETWORK.items()}
    infer(source, data, tmp_path / "out", weights=str(shipped.parents[1] / "unlearned.pt"), **overrides)
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_the_source_metadata_is_complete():
    metadata = json.loads((Path(__file__).parent.parent / "bundle" / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]


@pytest.mark.deploy
def test_deploy_application_equals_the_bundle(shipped, data, tmp_path):
    if importlib.util.find_spec("monai.deploy") is None:
        pytest.skip("MONAI Deploy is not installed: see bundle/docs/deploy.md")
    probe = subprocess.run(
        [sys.executable, "-c", "import monai.deploy.core"], capture_output=True, text=True, check=False
    )
    if probe.returncode != 0:
        pytest.skip(f"MONAI Deploy cannot be imported, see bundle/docs/deploy.md: {probe.stderr.splitlines()[-1]}")
    infer(shipped, data, tmp_path / "bundle")
    command = [sys.executable, "-m", "scripts.shipping.deploy_app", "-i", data, "-o", tmp_path / "app"]
    command += ["-m", shipped / "models" / "model.ts"]
    environment = {**os.environ, "PYTHONPATH": str(shipped)}
    done = subprocess.run(
        list(map(str, command)), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for path in (tmp_path / "bundle").iterdir():
        ours, theirs = (nib.load(folder / path.name).get_fdata() for folder in (tmp_path / "bundle", tmp_path / "app"))
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5 * ours.max())
        assert (tmp_path / "app" / f"{path.name.partition('.')[0]}_dicom").is_dir()
