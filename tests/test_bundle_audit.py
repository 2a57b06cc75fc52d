"""The verb audit and the certificate, run through monai.bundle on tiny data."""

import json
import re
import shutil
from pathlib import Path

import pytest

from scripts.audit import project_gates
from scripts.certificate.verify import FAILS, UNCHECKED, main, verify_certificate
from scripts.run.files import file_sha256
from tests import verbs
from tests.verbs import SMALL, process_as_before

QUICK = {"relearning_steps": 4, "resurfacing_share": 0.1, "statistics#samples": 200, "check_values": False}
KEY = "the key of these tests"
OUTPUTS = {
    "audit.json", "audit.md", "audit.html", "audit.log", "certificate.json", "hallucination.png", "metrics.csv",
    "metrics.json", "panels.png", "table.md",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _key(contained, monkeypatch):
    monkeypatch.setenv("MRI_UNLEARNING_KEY", KEY)


def run(verb: str, **overrides) -> None:
    verbs.run(verb, **{**SMALL, **overrides})


def audit(tiny_datalist, made, output_dir="audit", **overrides) -> dict:
    weights = {"weights": str(made / "original.pt"), "unlearned_weights": str(made / "unlearned.pt")}
    run("audit", datalist=tiny_datalist, output_dir=output_dir, **{**weights, **QUICK, **overrides})
    return json.loads(Path(output_dir, "audit.json").read_text())


@pytest.fixture(scope="session")
def made(tiny_datalist, tmp_path_factory) -> Path:
    """A folder with original, oracle and unlearned weights and their records."""
    folder = tmp_path_factory.mktemp("made")
    settings = {"datalist": tiny_datalist, "output_dir": str(folder), "check_values": False}
    with process_as_before():
        for oracle in (False, True):
            run("train", oracle=oracle, train_epochs=1, **settings)
        weights = str(folder / "original.pt")
        settings["ledger"] = str(folder / "ledger.jsonl")
        verbs.run("unlearn", "methods/fine_tune.yaml", weights=weights, unlearn_epochs=1, evaluate_models=False,
                  **settings, **SMALL)  # fmt: skip
    (folder / "alone").mkdir()
    shutil.copyfile(folder / "unlearned.pt", folder / "alone" / "unlearned.pt")
    return folder


@pytest.fixture(scope="session")
def audited(tiny_datalist, made, tmp_path_factory) -> Path:
    """A folder ``audit`` with everything that the verb writes, beside the weights and records it read."""
    folder = tmp_path_factory.mktemp("audited")
    for name in ("original.pt", "original.json", "oracle.pt", "oracle.json", "unlearned.pt", "unlearned.json"):
        shutil.copyfile(made / name, folder / name)
    with pytest.MonkeyPatch.context() as patch, process_as_before():
        patch.setenv("MRI_UNLEARNING_KEY", KEY)
        audit(tiny_datalist, folder, str(folder / "audit"), oracle_weights=str(folder / "oracle.pt"))
    return folder


def test_everything_is_written(audited, made):
    assert {path.name for path in (audited / "audit").iterdir()} == OUTPUTS
    result = json.loads((audited / "audit" / "audit.json").read_text())
    assert set(result["models"]) == {"zero-filled", "G", "oracle", "unlearned", "unlearned, int8"}
    assert result["inputs"]["weights"]["unlearned"]["sha256"] == file_sha256(made / "unlearned.pt")
    assert result["declared"]["gates"] == project_gates()
    assert len(result["gates"]) == len(result["declared"]["gates"])
    measures = result["measures"]
    assert measures["oracle_gap"]["BTA"]["psnr"]["gap"]["volumes"] == 2
    assert measures["relearning"]["curves"]["unlearned"][0][0] == 0
    assert measures["hallucination"]["models"]["unlearned"]["null_space_nmse"] > 0
    assert measures["cost"]["slices_read"] == {"retain": 2, "forget": 4}
    assert f"Audit: {result['verdict']['verdict']}" in (audited / "audit" / "audit.md").read_text()


def test_the_original_and_the_oracle_audit_themselves_alike(tiny_datalist, made):
    oracle = str(made / "oracle.pt")
    found = audit(tiny_datalist, made, unlearned_weights=oracle, run_record=False, relearning_steps=0)
    gap = found["measures"]["oracle_gap"]["UA"]["psnr"]["gap"]
    assert (gap["value"], gap["interval"]) == (0.0, [0.0, 0.0])
    assert found["measures"]["membership"]["gain"]["above"]["value"] == 0
    assert "run record" in found["measures"]["cost"]["not measured"]
    assert not Path("audit/certificate.json").exists()
    again = audit(tiny_datalist, made, unlearned_weights=oracle, run_record=False, relearning_steps=0, overwrite=True)
    assert {**again, "configuration": 0} == {**found, "configuration": 0}


def test_an_exact_run_is_judged_by_what_it_kept(tiny_datalist, trained):
    output = str(verbs.unlearn(tiny_datalist, trained, evaluate_models=False))
    verbs.run("audit", run=output, **QUICK)
    found = json.loads(Path(output, "audit", "audit.json").read_text())
    assert (found["forgetting"]["how"], found["forgetting"]["shown"]) == ("exact", "replayable")
    assert found["provenance"]["problems"]["run"] == []
    assert {gate["guards"] for gate in found["gates"]} == {"retain damage"}
    assert not {"relearning", "resurfacing", "acquisitions"} & set(found["measures"])
    assert found["verdict"]["verdict"] in ("forgotten exactly", "retain damaged", "undecided")
    assert "Forgetting: exact (replayable)." in Path(output, "audit", "audit.md").read_text()
    assert not [what for verdict, what in verify_certificate(f"{output}/audit/certificate.json") if verdict == FAILS]
    verbs.run("replay", run=output)
    verbs.run("audit", run=output, overwrite=True, certificate=False, full=True, **QUICK)
    found = json.loads(Path(output, "audit", "audit.json").read_text())
    assert found["forgetting"]["shown"] == "replayed"
    assert {"relearning", "resurfacing"} <= set(found["measures"])
    assert len({gate["guards"] for gate in found["gates"]}) == 4


def test_no_oracle(tiny_datalist, made):
    found = audit(tiny_datalist, made, oracle_weights=False)
    assert found["measures"]["oracle_gap"] == {"not measured": "no oracle weights"}
    assert found["verdict"]["verdict"] in ("undecided", "retain damaged", "suppressed")
    alone = ("resurfacing/KTA/psnr/rise", "relearning/psnr/rise")  # against the model's own state
    for gate in found["gates"]:
        if gate["guards"] != "retain damage" and not gate["measure"].endswith("/rise"):
            assert gate["verdict"] == "not measured", gate
    assert {gate["measure"] for gate in found["gates"] if gate["value"] is not None} >= set(alone)
    assert "weaker evidence" in Path("audit/audit.md").read_text()
    assert not [what for verdict, what in verify_certificate("audit/certificate.json") if verdict == FAILS]


FILES = ["original.json", "oracle.json", "unlearned.json", "original.pt", "oracle.pt", "unlearned.pt"]
FILES += [f"audit/{name}" for name in sorted(OUTPUTS - {"audit.log", "certificate.json"})]

WEIGHTS = {"original.pt": "G", "oracle.pt": "oracle", "unlearned.pt": "unlearned"}


@pytest.mark.parametrize("name", FILES)
def test_tampering_with_a_file_is_found(audited, tmp_path, name, capsys):
    shutil.copytree(audited, tmp_path / "copy")
    file = tmp_path / "copy" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(SystemExit) as error:
        main(str(tmp_path / "copy" / "audit" / "certificate.json"))
    assert error.value.code == 1
    label = f"weights {WEIGHTS[name]}" if name in WEIGHTS else re.escape(Path(name).name)
    assert re.search(rf"FAILS: .*{label}: SHA-256", capsys.readouterr().out)


def test_a_missing_file_is_listed_as_not_checked(audited, tmp_path):
    shutil.copytree(audited, tmp_path / "copy")
    (tmp_path / "copy" / "unlearned.json").unlink()
    (tmp_path / "copy" / "original.pt").unlink()
    found = verify_certificate(tmp_path / "copy" / "audit" / "certificate.json")
    assert (UNCHECKED, "record of unlearned: not here") in found
    assert (UNCHECKED, "weights G: not here") in found


def test_what_an_audit_without_declaration_says(audited):
    assert json.loads((audited / "declaration.json").read_text())["before"] == "the audit"
    found = verify_certificate(audited / "audit" / "certificate.json")
    (said,) = (what for verdict, what in found if verdict == UNCHECKED and what.startswith("declared before the audit"))
    assert said.endswith("whether a result was known by then cannot be told")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"unlearned_weights": "nowhere.pt"}, "'unlearned_weights': no such file: nowhere.pt; run the verb unlearn"),
        ({"oracle_seeds": ["nowhere.pt"]}, "'oracle_seeds': no such file: nowhere.pt"),
        ({"run_record": "nowhere.json"}, "no such run record: nowhere.json"),
        (
            {"unlearned_weights": "{made}/alone/unlearned.pt"},
            "certificate: 'run_record': found none beside the audited weights",
        ),
        ({"gates": []}, "'gates': expected a list of at least 1"),
        (
            {"gates": [{"name": "a", "guards": "suppression", "measure": "quantised/UA/psnr/above", "at_most": 1.0}]},
            "at least one gate for each failure",
        ),
        ({"gates": [{"name": "a", "guards": "quality", "measure": "cost"}]}, "gates: a: 'guards'"),
        ({"statistics#confidence": 95}, "'statistics#confidence': expected a number between 0 and 1, found 95"),
        ({"subgroups": ["patient_id"]}, "'subgroups': expected fields that name no patient or file"),
        ({"relearning_steps": 3}, "'max_steps': expected 0 or a multiple of 'every', 2, found 3"),
        ({"signing_key": "nowhere.pem"}, "nowhere.pem: expected a file, found none"),
        ({"identifier_key": "nowhere.key"}, "'identifier_key': no such file: nowhere.key"),
        ({"forget_request": False}, "audit: expected a forget request"),
        ({"relearning_step": 0}, "override key 'relearning_step'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tiny_datalist, made, overrides, message):
    if "signing_key" in overrides:
        pytest.importorskip("cryptography")
    if "unlearned_weights" in overrides:
        overrides = {"unlearned_weights": overrides["unlearned_weights"].format(made=made)}
    with pytest.raises(RuntimeError) as error:
        audit(tiny_datalist, made, **overrides)
    root = error.value
    while root.__cause__ is not None:
        root = root.__cause__
    assert re.search(message, str(root)), root
    assert list(Path().iterdir()) == []
