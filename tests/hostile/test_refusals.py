"""Every case of the table, in one warm process: refused with its words, and nothing written."""

import json
import shutil
import warnings
from pathlib import Path

import monai.bundle
import pytest
import torch

from scripts.networks import VarNet, save_weights
from scripts.run.check import read_settings
from scripts.run.errors import told
from scripts.run.settings import settings_of
from scripts.run.start import close_ended
from tests.conftest import write_tiny_volume
from tests.hostile.cases import CASES, Case, flags
from tests.hostile.more_cases import MORE
from tests.verbs import CONFIGS, SMALL, without_record

pytestmark = pytest.mark.usefixtures("contained")


@pytest.fixture(scope="session")
def good(tmp_path_factory) -> Path:
    """Seven scans, their datalist, and weights of the small network."""
    root = tmp_path_factory.mktemp("good")
    lists: dict[str, list] = {"training": [], "validation": [], "test": []}
    sections = ["training"] * 4 + ["validation", "test", "test"]
    anatomies = ("brain", "knee", "brain", "knee", "brain", "brain", "knee")
    for seed, (section, anatomy) in enumerate(zip(sections, anatomies, strict=True)):
        write_tiny_volume(root / f"scan_{seed}.h5", seed, upright=anatomy == "brain")
        lists[section].append({"kspace": f"scan_{seed}.h5", "anatomy": anatomy, "patient_id": f"P{seed}"})
    (root / "datalist.json").write_text(json.dumps(lists))
    torch.manual_seed(0)
    save_weights(VarNet(num_cascades=1, chans=4, pools=2, sens_chans=4, sens_pools=2), root / "weights.pt")
    return root


def config_files(case: Case) -> list[str]:
    names = ["audit.yaml", "declare.yaml"] if case.verb == "declare" else [f"{case.verb}.yaml"]
    names = [f"{case.verb}.json"] if case.verb in ("inference", "serve", "send") else names
    files = [str(CONFIGS / name) for name in names]
    for overlay in case.overlays:
        path = str(CONFIGS / overlay.removeprefix("<"))
        files = [path, *files] if overlay.startswith("<") else [*files, path]
    return files


def overrides_of(case: Case, root: Path) -> dict:
    small = {"network_def" + k.removeprefix("network"): v for k, v in SMALL.items() if k.startswith("network")}
    shared = {"datalist": str(root / "datalist.json"), **SMALL}
    weights, uncertified = str(root / "weights.pt"), {"run_record": False, "certificate": False}
    usual = {
        "train": shared,
        "unlearn": {**shared, "weights": weights},
        "evaluate": without_record("evaluate", shared["datalist"], weights=weights),
        "simulate": {"images": [{"image": "none.nii"}]},
        "audit": without_record(
            "audit", shared["datalist"], weights=weights, unlearned_weights=weights, oracle_weights=False, **uncertified
        ),
        "protocol": {**shared, "methods": ["fine_tune"], "fraction_methods": []},
        "ship": {
            "weights": weights,
            "data_source": "Bars.",
            "data_license": str(root / "datalist.json"),
        },
        "preview": {"datalist": shared["datalist"]},
        "inference": {"dataset_dir": str(root), "weights": weights, **small},
        "serve": {"weights": weights, "port": 0, **small},
        "send": {"source": str(root), "patience_s": 0},
        "declare": without_record("audit", shared["datalist"], weights=weights, unlearned_weights=weights),
    }[case.verb]
    spoilt = case.spoil(root) if case.spoil else {}
    overrides = {**usual, **case.overrides, **spoilt}
    replaced = [key for key in overrides if "#" in key and key.partition("#")[0] in overrides]
    return {key: value for key, value in overrides.items() if key not in replaced}


def run_case(case: Case, root: Path) -> None:
    run_id = "run" if case.verb == "inference" else case.verb
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monai.bundle.run(run_id, config_file=config_files(case), logging_file=False, **overrides_of(case, root))


def listing(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


@pytest.mark.parametrize("case", [*CASES, *MORE], ids=str)
def test_is_refused_before_anything_is_written(case, good, tmp_path):
    root = shutil.copytree(good, tmp_path / "data")
    before: set[str] = set()

    def spoil(folder: Path) -> dict:
        changed = case.spoil(folder) if case.spoil else {}
        before.update(listing(tmp_path))
        return changed

    with pytest.raises((ValueError, OSError, RuntimeError)) as error:
        run_case(Case(case.verb, case.words, case.overrides, spoil, case.overlays), root)
    paragraph = " ".join(told(error.value).split())
    close_ended()  # as the next run of the process does, or its end
    for word in case.words:
        assert word in paragraph
    assert len(paragraph) < 1500
    assert "__local_refs" not in paragraph
    assert listing(tmp_path) == before


def test_the_table_is_long_enough():
    cases = [*CASES, *MORE]
    assert len(cases) >= 600
    assert len({str(case) for case in cases}) > 0.9 * len(cases)


@pytest.mark.parametrize(("verb", "key", "nothing"), flags())
def test_words_for_true_and_false_are_understood(verb, key, nothing):
    """Fire reads True and False alone; a text that is not empty is true to Python."""
    for word, meaning in {"true": True, "False": False, "no": False, "YES": True, "off": False}.items():
        assert read_settings(verb, {key: word}, {}) == {key: meaning}
    for word in ("none", "null"):
        if nothing:
            assert read_settings(verb, {key: word}, {}) == {key: None}
        else:
            with pytest.raises(ValueError, match=f"'{key}': expected"):
                read_settings(verb, {key: word}, {})
    with pytest.raises(ValueError, match=f"'{key}': expected"):
        read_settings(verb, {key: "perhaps"}, {})


def test_false_does_not_train_the_oracle(good):
    workflow = monai.bundle.create_workflow
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = workflow(
            config_file=str(CONFIGS / "train.yaml"),
            logging_file=False,
            oracle="false",
            run_id="train",
            datalist=str(good / "datalist.json"),
            **SMALL,
        )
    assert made.parser.get_parsed_content("name") == "original"
    assert made.parser.get("oracle") is False


@pytest.mark.parametrize("verb", ["train", "unlearn", "evaluate", "simulate", "audit", "protocol", "ship", "preview"])
def test_every_setting_is_declared_and_fits_its_own_default(verb):
    """What a config states as a plain value has a type of its own, and the default is of that type."""
    import yaml

    declared = yaml.safe_load((CONFIGS / f"{verb}.yaml").read_text(encoding="utf-8"))
    own = {k: v for k, v in declared.items() if not ("run_dir" in declared and v in ({}, None))}  # others: the run's
    assert read_settings(verb, own, declared) == {}
    plain = {key for key, value in declared.items() if not isinstance(value, (dict, list, str))}
    assert plain <= set(settings_of(verb))


def test_a_dollar_in_a_file_name_is_a_letter(good, tmp_path):
    """MONAI takes a text that begins so for an expression."""
    root = shutil.copytree(good, tmp_path / "data")
    content = json.loads((root / "datalist.json").read_text())
    for entry in content["test"]:
        (root / entry["kspace"]).rename(root / f"${entry['kspace']}")
        entry["kspace"] = f"${entry['kspace']}"
    (root / "datalist.json").write_text(json.dumps(content))
    run_case(Case("evaluate", (), {"output_dir": str(tmp_path / "out")}), root)
    assert "$scan_5.h5" in (tmp_path / "out" / "metrics.csv").read_text()
    assert (tmp_path / "out" / "panels.png").is_file()
