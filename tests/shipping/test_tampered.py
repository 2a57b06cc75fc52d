"""A shipped bundle that was tampered with: every verb refuses it in one line before it does anything."""

import shutil
import warnings
from pathlib import Path

import monai.bundle
import pytest
import yaml

from tests.verbs import process_as_before

VERBS = {
    "train": "train.yaml", "unlearn": "unlearn.yaml", "evaluate": "evaluate.yaml", "audit": "audit.yaml",
    "preview": "preview.yaml", "protocol": "protocol.yaml", "simulate": "simulate.yaml", "ship": "ship.yaml",
    "replay": "replay.yaml", "help": "help.yaml", "run": "inference.json", "serve": "serve.json", "send": "send.json",
}  # fmt: skip


@pytest.fixture
def bundle(shipped_full, tmp_path):
    return shutil.copytree(shipped_full, tmp_path / "bundle")


def refusal(bundle: Path, verb: str) -> str:
    """Why a verb is refused: what went wrong first."""
    with warnings.catch_warnings(), process_as_before(), pytest.raises(RuntimeError) as error:
        warnings.filterwarnings("ignore", "parsing config_file", UserWarning)
        monai.bundle.run(verb, config_file=str(bundle / "configs" / VERBS[verb]), bundle_root=str(bundle))
    root: BaseException = error.value
    while root.__cause__ is not None:
        root = root.__cause__
    assert "\n" not in str(root)
    return str(root)


def scripts_deleted(bundle: Path) -> str:
    shutil.rmtree(bundle / "scripts")
    return "scripts/__init__.py: missing"


def manifest_deleted(bundle: Path) -> str:
    (bundle / "manifest.json").unlink()
    return "manifest.json: missing"


def both_deleted(bundle: Path) -> str:
    scripts_deleted(bundle)
    return manifest_deleted(bundle)


def all_deleted(bundle: Path) -> str:
    """Also what guards the import; only the configs are left to tell that it was a bundle."""
    (bundle / "mri_unlearning.py").unlink()
    return both_deleted(bundle)


def manifest_emptied(bundle: Path) -> str:
    (bundle / "manifest.json").write_text('{"sha256": "", "files": {}}')
    return "manifest.json: changed"


def manifest_named_twice(bundle: Path) -> str:
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text.replace('"files"', '"files": {}, "files"', 1))
    return "manifest.json: changed"


def folder_linked(bundle: Path) -> str:
    (bundle / "scripts").rename(bundle.parent / "elsewhere")
    (bundle / "scripts").symlink_to(bundle.parent / "elsewhere", target_is_directory=True)
    return "scripts/__init__.py: a link"


def weights_linked(bundle: Path) -> str:
    (bundle / "models" / "model.pt").rename(bundle.parent / "model.pt")
    (bundle / "models" / "model.pt").symlink_to(bundle.parent / "model.pt")
    return "models/model.pt: a link"


def cache_planted(bundle: Path) -> str:
    cache = bundle / "scripts" / "__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "evil.cpython-311.pyc").write_bytes(b"")
    return "scripts/__pycache__/evil.cpython-311.pyc: not in the manifest"


def config_added(bundle: Path) -> str:
    (bundle / "configs" / "methods" / "better.yaml").write_text("method: []\n")
    return "configs/methods/better.yaml: not in the manifest"


def config_renamed(bundle: Path) -> str:
    (bundle / "configs" / "metadata.json").rename(bundle / "configs" / "Metadata.json")
    return "configs/Metadata.json: not in the manifest"


def weights_exchanged(bundle: Path) -> str:
    shutil.copyfile(bundle / "models" / "model.ts", bundle / "models" / "model.pt")
    return "models/model.pt: changed"


@pytest.mark.parametrize(
    "attack",
    [
        scripts_deleted, manifest_deleted, both_deleted, all_deleted, manifest_emptied, manifest_named_twice,
        folder_linked, weights_linked, cache_planted, config_added, config_renamed, weights_exchanged,
    ],
)  # fmt: skip
def test_each_attack_ends_in_a_refusal_that_names_it(bundle, attack):
    expected = attack(bundle)
    assert expected in refusal(bundle, "unlearn")
    if "configs/Metadata.json" not in expected:
        assert expected in refusal(bundle, "run")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("attack", [both_deleted, config_added])
def test_every_verb_refuses(bundle, verb, attack):
    expected = attack(bundle)
    assert expected in refusal(bundle, verb)


def test_these_are_all_verbs(shipped_full):
    named = {}
    for path in (shipped_full / "configs").glob("*.*"):
        content = yaml.safe_load(path.read_text()) if path.suffix in (".yaml", ".json") else {}
        if "verb" in content:
            named[path.name] = content["verb"]
            first = content["initialize"][0]
            assert "scripts.run.begin" in (first if isinstance(first, str) else first["_target_"])
    assert set(named) == set(VERBS.values())
