"""The audit of one patient by the verbs alone: original, reference models, unlearning, audit."""

import json
from pathlib import Path

import pytest

from scripts.run.errors import own_error
from scripts.run.files import file_sha256
from tests.conftest import write_tiny_volume
from tests.verbs import SMALL, run

ASKED = {"request_id": "march", "reason": "withdrew", "forget": [{"patient_id": "P0"}]}
pytestmark = pytest.mark.usefixtures("contained")


def datalist(folder: Path) -> str:
    """Eight patients to train on, the first with two scans, and six to test on."""
    sections = {"training": ["P0", "P0again", *(f"P{i}" for i in range(1, 8))], "test": [f"U{i}" for i in range(6)]}
    lists = {}
    for section, names in sections.items():
        for seed, name in enumerate(names):
            write_tiny_volume(folder / f"{name}.h5", 100 * len(section) + seed, slices=1)
        lists[section] = [
            {"kspace": f"{n}.h5", "patient_id": n.removesuffix("again"), "anatomy": "brain"} for n in names
        ]
    path = folder / "datalist.json"
    path.write_text(json.dumps(lists))
    return str(path)


def test_one_patient(tmp_path):
    (tmp_path / "data").mkdir()
    given = {"datalist": datalist(tmp_path / "data"), "forget_request": ASKED, "check_values": False, **SMALL}
    run("train", train_epochs=2, output_dir="train", **given)
    references = []
    for seed in (1, 2, 3):
        settings = {"oracle": True, "training_share": 0.5, "seed": seed, "train_epochs": 1}
        run("train", output_dir=f"reference/{seed}", **settings, **given)
        references.append(f"reference/{seed}/reference.pt")
        read = json.loads(Path(references[-1]).with_suffix(".json").read_text())["data"]["training"]["volumes"]
        assert len(read) == 4  # of the seven others
        assert not {"P0.h5", "P0again.h5"} & {entry["volume"] for entry in read}
    run(
        "unlearn", "methods/fine_tune.yaml", weights="train/original.pt", output_dir="out", retain_fraction=0.5,
        unlearn_epochs=1, evaluate_models=False, **given,
    )  # fmt: skip
    settings = {
        "weights": "train/original.pt", "unlearned_weights": "out/unlearned.pt", "reference_weights": references,
        "likelihood_rate": 0.2, "oracle_weights": False, "relearning_steps": 0, "resurfacing_share": 0,
        "statistics#samples": 200, **given,
    }  # fmt: skip
    with pytest.raises(RuntimeError) as error:
        run("audit", "patients.yaml", output_dir="refused", **{**settings, "reference_weights": ["train/original.pt"]})
    assert "expected other weights than those of G" in str(own_error(error.value))
    assert not Path("refused").exists()

    run("audit", "patients.yaml", output_dir="audit", **settings)
    result = json.loads(Path("audit/audit.json").read_text())
    found = result["measures"]["likelihood"]
    assert found["references"] == {"given": 3, "counting": 3}
    assert found["unseen"] == 6
    (row,) = [row for row in found["patients"] if row["role"] == "forgotten"]
    assert row["scans"] == sorted(file_sha256(tmp_path / "data" / f"{name}.h5") for name in ("P0", "P0again"))
    assert 1 / 7 <= row["error_rate"] <= 1
    assert row["verdict"] in ("known", "over-forgotten", "no power", "not found")
    assert row["verdict"] != "not found" or found["power"] >= 0.5
    gates = {gate["measure"]: gate for gate in result["gates"]}
    assert gates["likelihood/forgotten"]["value"] == row["error_rate"]
    assert (gates["likelihood/forgotten"]["verdict"] == "pass") == (row["verdict"] == "not found")
    assert [gate["measure"] for gate in result["control"]["gates"]] == ["likelihood/forgotten"]
    assert result["control"]["gates"][0]["value"] == row["original_error_rate"]
    assert "Single patients, beside reference models" in Path("audit/audit.md").read_text()
    assert Path("audit/certificate.json").is_file()


def test_a_share_of_the_patients_is_no_original(tmp_path):
    """It is written as a reference, with all scans of whom it takes, and no ledger goes on with it."""
    (tmp_path / "data").mkdir()
    run(
        "train", datalist=datalist(tmp_path / "data"), forget_request=False, training_share=0.3, train_epochs=1,
        output_dir="part", ledger="part/ledger.jsonl", check_values=False, **SMALL,
    )  # fmt: skip
    assert {path.name for path in Path("part").glob("*.pt")} == {"reference.pt"}
    assert not Path("part/ledger.jsonl").exists()
