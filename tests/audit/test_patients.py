"""The audit of single patients: who was seen by whom is read from records; known answers, and forged references."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.audit import Statistics, patients
from scripts.audit.measure import QUANTISED
from scripts.audit.patients import Likelihood
from scripts.data.datalist import load_datalist
from scripts.evaluation.results import VolumeResult
from scripts.networks.weights import save_weights
from scripts.run.files import file_sha256
from tests.audit.helpers import given
from tests.conftest import write_tiny_volume

SETTINGS = {"network": {"_target_": "torch.nn.Linear"}, "mask": {"acceleration": 3}}
TRAINED = [f"K{i}" for i in range(8)]  # retained; the first four are the retain subset of the unlearning run
SAW = {1: TRAINED[:2], 2: TRAINED[2:4], 3: TRAINED[4:6], 4: TRAINED[6:], 5: ["P0", *TRAINED[:4]]}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, list]:
    """One forgotten patient with two scans, eight retained ones and 24 of the test list, with one scan each."""
    folder = tmp_path_factory.mktemp("patients")
    sections = {"training": ["P0", "P0again", *TRAINED], "test": [f"U{i}" for i in range(24)]}
    lists = {}
    for section, names in sections.items():
        for seed, name in enumerate(names):
            write_tiny_volume(folder / f"{name}.h5", 100 * len(section) + seed, slices=1)
        lists[section] = [{"kspace": f"{n}.h5", "patient_id": n.removesuffix("again")} for n in names]
    (folder / "datalist.json").write_text(json.dumps(lists))
    return load_datalist(folder / "datalist.json")


def save(path: Path, **roles) -> str:
    """Weights, each others, and the record of the run that made them."""
    save_weights(torch.nn.Linear(1, 1), path)
    part = {
        role: {"slices": 1, "volumes": [{"volume": v.name, "sha256": file_sha256(v.path)} for v in volumes]}
        for role, volumes in roles.items()
    }
    content = {
        "verb": "unlearn" if "retain" in roles else "train",
        "weights_in": None,
        "weights_out": {"sha256": file_sha256(path)},
        "cost": {},
        "data": part,
        "configuration": SETTINGS,
    }
    path.with_suffix(".json").write_text(json.dumps(content))
    return str(path)


@pytest.fixture
def files(data, tmp_path, monkeypatch) -> dict:
    """What the measure is given."""
    monkeypatch.setattr(patients, "running_config", lambda: SETTINGS)
    named = {v.name: v for v in data["training"]}

    def of(*names):
        return [v for v in named.values() if v.patient_id in names]

    original = save(tmp_path / "original.pt", training=data["training"])
    unlearned = save(tmp_path / "unlearned.pt", retain=of(*TRAINED[:4]), forget=of("P0"))
    references = [save(tmp_path / f"reference_{i}.pt", training=of(*saw)) for i, saw in SAW.items()]
    return {
        "weights": references,
        "audited": {"G": original, "unlearned": unlearned},
        "record": str(tmp_path / "unlearned.json"),
        "cohorts": {"UA": of("P0"), "BTA": data["test"]},
        "retain": of(*TRAINED),
        "limit": 1000,
    }


def audit_of(files: dict) -> Likelihood:
    """The measure, of the settings that a test has changed."""
    facts = {name: files[name] for name in ("cohorts", "retain", "limit", "record")}
    audited = {**facts, "weights": files["audited"], "network": torch.nn.Linear(1, 1)}
    rate = {"rate": files["rate"]} if "rate" in files else {}
    return Likelihood(given(**audited), files["weights"], **rate)


def found(files: dict, monkeypatch, memory: float, audited_knows: set, original_knows: set | None = None) -> dict:
    """The measure's result for models whose SSIM is higher by ``memory`` on what they know: scan, model and chance."""
    measure = audit_of(files)
    knows = {
        "unlearned": audited_knows,
        QUANTISED: audited_knows,
        "G": {"P0", *TRAINED} if original_knows is None else original_knows,
        **{f"reference {i}": set(saw) for i, saw in SAW.items()},
    }

    def ssim(model, volume, mask):
        rng = np.random.default_rng([ord(c) for c in volume.name + model + str(mask)])
        scan = np.random.default_rng([ord(c) for c in volume.name]).normal(30, 3)
        level = scan + rng.normal(0, 0.4) + memory * (volume.patient_id in knows[model])
        return 1 - 10 ** (-level / 10)

    def results(models, cohorts, transform, device):
        return [
            VolumeResult(model, "patients", v.name, v.patient_id, "", 1, 30.0, ssim(model, v, transform.seed), 0.01)
            for model in models
            for v, _ in cohorts["patients"]
        ]

    monkeypatch.setattr(patients, "measure_models", results)
    result = measure.measure(dict.fromkeys(["unlearned", "G", QUANTISED]), None, Statistics())
    return {**result, "original": measure.control(None, Statistics())}


def forgotten(result: dict) -> dict:
    (row,) = [row for row in result["patients"] if row["role"] == "forgotten"]
    return row


def test_who_plays_which_part_follows_from_the_records(files):
    measure = audit_of(files)
    assert measure.usable == ["reference 1", "reference 2", "reference 3", "reference 4"]  # 5 saw the forgotten patient
    assert measure.roles == {
        "P0": "forgotten",
        **{f"U{i}": "unseen" for i in range(24)},
        **dict.fromkeys(TRAINED[:4], "canary"),
        **dict.fromkeys(TRAINED[4:], "retained"),
    }
    assert measure.trained == {"P0": ["G", "reference 5"]}
    assert measure.slices({}) == (24 + 2 + 8) * (5 + 3) * 3  # the limit leaves room for three masks of each scan
    assert [one.seed for one in measure.transforms] == [0, 1, 2]


def test_the_canaries_of_an_oracle_are_those_whom_its_training_read(files, data, tmp_path, monkeypatch):
    """So an oracle can be audited as if it were unlearned, and be told from an audit that is blind."""
    retained = [v for v in data["training"] if v.patient_id in TRAINED]
    oracle = save(tmp_path / "oracle.pt", training=retained)
    audited = {"audited": {**files["audited"], "unlearned": oracle}, "record": str(tmp_path / "oracle.json")}
    result = found({**files, **audited}, monkeypatch, 3.0, set(TRAINED))
    assert {row["role"] for row in result["patients"]} == {"forgotten", "canary"}
    assert (result["canaries"], forgotten(result)["verdict"]) == (8, "not found")


def test_a_patient_who_is_known_and_one_who_is_not(files, monkeypatch):
    known = found(files, monkeypatch, 3.0, {"P0", *TRAINED})
    assert forgotten(known)["verdict"] == "known"
    assert known["forgotten"]["value"] == pytest.approx(1 / 25)
    assert known["power"] == 1.0
    gone = found(files, monkeypatch, 3.0, set(TRAINED))
    assert forgotten(gone)["verdict"] == "not found"
    assert "cannot_accept" not in gone["forgotten"]
    assert gone["original"]["forgotten"]["value"] == pytest.approx(1 / 25)
    assert {row["verdict"] for row in gone["patients"] if row["role"] != "forgotten"} == {"known"}
    assert abs(gone["exposed"]["value"]) < 3.0 < abs(found(files, monkeypatch, 3.0, set())["exposed"]["value"])


def test_without_memory_the_audit_says_no_power_and_its_gates_do_not_accept(files, monkeypatch):
    nothing = found(files, monkeypatch, 0.0, set())
    assert forgotten(nothing)["verdict"] == "no power"
    assert "of the 4 canaries were found" in nothing["forgotten"]["cannot_accept"]
    original = found(files, monkeypatch, 3.0, set(TRAINED), original_knows=set(TRAINED))
    assert forgotten(original)["verdict"] == "not found"  # reference 5 knows the patient, and is found to
    alone = {**files, "weights": files["weights"][:4]}
    original = found(alone, monkeypatch, 3.0, set(TRAINED), original_knows=set(TRAINED))
    assert "the audit finds the patient in 0.00 only" in forgotten(original)["because"]


def test_no_name_stands_in_the_result(files, monkeypatch):
    text = json.dumps(found(files, monkeypatch, 3.0, set(TRAINED)))
    assert not [name for name in ("P0", *TRAINED) if f'"{name}' in text]


def rewrite(path: str, **changes) -> None:
    record = Path(path).with_suffix(".json")
    record.write_text(json.dumps({**json.loads(record.read_text()), **changes}))


def test_without_reference_models_nothing_is_measured(files):
    measure = audit_of({**files, "weights": []})
    assert measure.slices({}) == 0
    assert measure.measure({}, None, Statistics()) == {"not measured": "no reference weights"}


def other_weights(files):
    save_weights(torch.nn.Linear(1, 1), files["weights"][0])


def no_record(files):
    Path(files["weights"][0]).with_suffix(".json").unlink()


def hash_taken_out(files):
    record = json.loads(Path(files["weights"][0]).with_suffix(".json").read_text())
    del record["data"]["training"]["volumes"][0]["sha256"]
    rewrite(files["weights"][0], data=record["data"])


def the_original_under_another_name(files):
    """The record says that it never saw the patient; the weights are those that did."""
    path = Path(files["weights"][0])
    path.write_bytes(Path(files["audited"]["G"]).read_bytes())
    rewrite(str(path), weights_out={"sha256": file_sha256(path)})


def twice(files):
    files["weights"][1] = files["weights"][0]


ATTACKS = {
    "'weights_out': the record is of other weights": other_weights,
    "no record beside it": no_record,
    "expected the SHA-256 of each file that was read": hash_taken_out,
    "expected other weights than those of G": the_original_under_another_name,
    "expected other weights than those of .*reference_1.pt": twice,
    "expected a training by the verb train from fresh": lambda f: rewrite(f["weights"][0], weights_in={"sha256": "0"}),
    "found another run": lambda f: rewrite(f["weights"][0], verb="unlearn"),
    "'mask': expected the audit's": lambda f: rewrite(f["weights"][0], configuration={**SETTINGS, "mask": {}}),
    "at least 2 whose records show no forget scan in their training, found 1 of 2": lambda f: f.update(
        weights=f["weights"][3:]
    ),
    "no such file: nowhere.pt": lambda f: f.update(weights=["nowhere.pt"]),
    "'slices_per_measure': expected at least 272 slices": lambda f: f.update(limit=271),
    "expected the record of the original's training": lambda f: Path(f["audited"]["G"]).with_suffix(".json").unlink(),
}


@pytest.mark.parametrize("message", ATTACKS)
def test_references_that_do_not_fit_are_refused(files, message):
    ATTACKS[message](files)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        audit_of(files)


def test_a_test_scan_that_was_trained_on_is_not_unseen(files, data):
    """Under whatever patient and name: its file's hash stands in the training's record."""
    original = files["audited"]["G"]
    record = json.loads(Path(original).with_suffix(".json").read_text())
    record["data"]["training"]["volumes"].append({"volume": "x", "sha256": file_sha256(data["test"][0].path)})
    rewrite(original, data=record["data"])
    assert "U0" not in audit_of(files).roles


@pytest.mark.parametrize(("limit", "masks"), [(272, 1), (543, 1), (544, 2), (100_000, 4)])
def test_as_many_masks_of_a_scan_as_the_limit_leaves_room_for(files, limit, masks):
    measure = audit_of({**files, "limit": limit})
    assert len(measure.transforms) == masks
    assert measure.slices({}) == 272 * masks <= limit


def test_the_scores_of_a_scan_are_averaged_over_its_masks(files, monkeypatch):
    """With noise of each mask alone, four masks halve the deviation of models, so that memory is twice as many."""
    once, often = (found({**files, "limit": limit}, monkeypatch, 4.0, {"P0"}) for limit in (272, 100_000))
    assert forgotten(often)["score"] / forgotten(once)["score"] == pytest.approx(2.0, rel=0.25)
