"""The verb audit and the certificate, run through monai.bundle on tiny data."""

import json
import re
import shutil
from pathlib import Path

import pytest

from scripts.certificate.certificate import certificate_section
from scripts.certificate.verify import FAILS, UNCHECKED, main, verify_certificate
from scripts.files import file_sha256
from tests import verbs
from tests.verbs import SMALL, process_as_before

QUICK = {"relearning_steps": 4, "relearning#every": 2, "statistics#samples": 200, "check_values": False}
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
        run("unlearn", weights=weights, unlearn_epochs=1, evaluate_models=False, **settings)
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
        audit(tiny_datalist, folder, str(folder / "audit"), query_weights=str(folder / "original.pt"))
    return folder


def test_everything_is_written(audited, made):
    assert {path.name for path in (audited / "audit").iterdir()} == OUTPUTS
    result = json.loads((audited / "audit" / "audit.json").read_text())
    assert set(result["models"]) == {"zero-filled", "G", "oracle", "query", "unlearned"}
    assert result["inputs"]["weights"]["unlearned"]["sha256"] == file_sha256(made / "unlearned.pt")
    assert result["declared"]["gates"] == result["configuration"]["gates"]
    assert len(result["gates"]) == len(result["declared"]["gates"])
    measures = result["measures"]
    assert measures["oracle_gap"]["BTA"]["psnr"]["gap"]["volumes"] == 2
    assert measures["relearning"]["curves"]["unlearned"][0][0] == 0
    assert measures["have_you_forgotten"].get("calibration", "oracle") == "oracle"
    assert measures["hallucination"]["models"]["unlearned"]["null_space_nmse"] > 0
    assert 0 < measures["distance"]["G"]["weights"] < measures["distance"]["oracle"]["weights"]
    assert measures["cost"]["slices_read"] == {"retain": 2, "forget": 4}
    assert f"Audit: {result['verdict']['verdict']}" in (audited / "audit" / "audit.md").read_text()


def test_the_original_and_the_oracle_audit_themselves_alike(tiny_datalist, made):
    oracle = str(made / "oracle.pt")
    found = audit(tiny_datalist, made, unlearned_weights=oracle, run_record=False, relearning_steps=0)
    gap = found["measures"]["oracle_gap"]["UA"]["psnr"]["gap"]
    assert (gap["value"], gap["interval"]) == (0.0, [0.0, 0.0])
    assert found["measures"]["distance"]["oracle"]["cka"]["BTA"] == pytest.approx(1)
    assert found["measures"]["membership"]["gain"]["above"]["value"] == 0
    assert "run record" in found["measures"]["cost"]["not measured"]
    assert not Path("audit/certificate.json").exists()
    again = audit(tiny_datalist, made, unlearned_weights=oracle, run_record=False, relearning_steps=0)
    assert {**again, "configuration": 0} == {**found, "configuration": 0}


def test_no_oracle(tiny_datalist, made):
    found = audit(tiny_datalist, made, oracle_weights=False)
    assert found["measures"]["oracle_gap"] == {"not measured": "no oracle weights"}
    assert found["verdict"]["verdict"] in ("undecided", "retain damaged")
    assert {gate["verdict"] for gate in found["gates"] if gate["guards"] != "retain damage"} == {"not measured"}
    assert not [what for verdict, what in verify_certificate("audit/certificate.json") if verdict == FAILS]


def test_the_certificate_holds_and_names_nobody(audited, tiny_datalist, tmp_path):
    path = audited / "audit" / "certificate.json"
    findings = verify_certificate(path, datalist=tiny_datalist)
    assert not [what for verdict, what in findings if verdict == FAILS]
    assert [what for verdict, what in findings if verdict == UNCHECKED] == ["signature: there is none"]
    text = path.read_text()
    names = [entry["kspace"] for section in json.loads(Path(tiny_datalist).read_text()).values() for entry in section]
    assert not any(name in text or Path(name).stem in text for name in names)
    assert not re.search(r"\bP0\d\d\b", text)
    assert KEY not in text
    certificate = json.loads(text)
    assert "no formal guarantee" in certificate["statement"]
    assert set(certificate["signed_by"].values()) == {""}
    assert [entry["kind"] for entry in certificate["records"]] == ["G", "oracle", "unlearned", "audit"]
    assert certificate["weights"]["unlearned"]["sha256"] in certificate_section(certificate)
    certificate["signed_by"]["name"] = "filled in by hand"
    shutil.copytree(audited, tmp_path / "copy")
    (tmp_path / "copy" / "audit" / "certificate.json").write_text(json.dumps(certificate))
    assert not [f for f in verify_certificate(tmp_path / "copy" / "audit" / "certificate.json") if f[0] == FAILS]


FILES = ["original.json", "oracle.json", "unlearned.json", "original.pt", "oracle.pt", "unlearned.pt"]
FILES += [f"audit/{name}" for name in sorted(OUTPUTS - {"audit.log", "certificate.json"})]


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
    assert re.search(rf"FAILS: .*{re.escape(Path(name).name)}: SHA-256", capsys.readouterr().out)


def test_a_missing_record_is_found(audited, tmp_path):
    shutil.copytree(audited, tmp_path / "copy")
    (tmp_path / "copy" / "unlearned.json").unlink()
    (tmp_path / "copy" / "original.pt").unlink()
    found = verify_certificate(tmp_path / "copy" / "audit" / "certificate.json")
    assert (FAILS, "record of unlearned ../unlearned.json: no such file") in found
    assert (UNCHECKED, "weights G ../original.pt: no such file") in found


def forge(certificate: dict, place: list, value) -> dict:
    *parents, last = place
    target = certificate
    for key in parents:
        target = target[key]
    target[last] = value
    return certificate


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["audit", "verdict", "verdict"], "forgotten", "verdict follows"),
        (["audit", "gates", 0, "value"], 0.123, "gates follow"),
        (["audit", "declared", "gates", 0, "at_least"], -50.0, "gates follow"),
        (["audit", "measures", "oracle_gap", "KTA", "psnr", "gap", "value"], 9.0, "figures are those of the audit"),
        (["records", 1, "sha256"], "0" * 64, "hash chain over 4 records, broken at"),
        (["weights", "unlearned", "sha256"], "0" * 64, "weights after unlearning"),
        (["request", "forget_files", 0, "sha256"], "0" * 64, "forget files of the record"),
        (["method", "configuration_sha256"], "0" * 64, "configuration of the unlearning"),
        (["statement"], "All traces are gone.", r"schema: \$.statement"),
        (["outputs"], [], r"schema: \$.outputs"),
    ],
)
def test_a_forged_certificate_is_found_even_with_its_own_hash_made_anew(audited, tmp_path, place, value, message):
    from scripts.certificate.chain import content_sha256

    shutil.copytree(audited, tmp_path / "copy")
    path = tmp_path / "copy" / "audit" / "certificate.json"
    forged = forge(json.loads(path.read_text()), place, value)
    path.write_text(json.dumps(forged))
    failed = [what for verdict, what in verify_certificate(path) if verdict == FAILS]
    assert any(re.search(message, what) for what in failed), failed
    body = {key: entry for key, entry in forged.items() if key != "content_sha256"}
    path.write_text(json.dumps({**body, "content_sha256": content_sha256(body)}))
    failed = [what for verdict, what in verify_certificate(path) if verdict == FAILS]
    assert any(re.search(message, what) for what in failed), failed


def test_signed_certificate(audited, tmp_path):
    pytest.importorskip("cryptography")
    from scripts.certificate.signature import make_keys, sign

    private, public = make_keys("keys")
    path = shutil.copytree(audited, tmp_path / "copy") / "audit" / "certificate.json"
    assert (FAILS, f"signature: no file {path}.sig") in verify_certificate(path, public_key=public)
    sign(path, private)
    assert ("holds", "signature by the given key") in verify_certificate(path, public_key=public)
    path.write_text(path.read_text().replace("demo-knee", "other"))
    assert (FAILS, "signature by the given key") in verify_certificate(path, public_key=public)


def test_another_key_or_other_scans_are_found(audited, tiny_datalist, tmp_path):
    path = audited / "audit" / "certificate.json"
    (tmp_path / "other.key").write_text("another key of sixteen")
    found = verify_certificate(path, datalist=tiny_datalist, identifier_key=tmp_path / "other.key")
    assert (FAILS, "forget files: the key is not the one of the certificate") in found
    data = tmp_path / "data"
    shutil.copytree(Path(tiny_datalist).parent, data)
    knee = sorted(data.glob("knee_*.h5"))
    knee[0].write_bytes(knee[0].read_bytes() + b"\0")
    knee[1].unlink()
    found = [f for f in verify_certificate(path, datalist=data / "datalist.json") if "forget file " in f[1]]
    assert sorted(verdict for verdict, _ in found) == [FAILS, UNCHECKED]


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
        ({"gates": []}, "at least one gate for each failure"),
        ({"gates#0#guards": "quality"}, "gates: retain quality: 'guards'"),
        ({"statistics#confidence": 95}, "'confidence': expected between 0 and 1, found 95"),
        ({"subgroups": ["patient_id"]}, "'subgroups': expected fields that name no patient or file"),
        ({"relearning_steps": 3}, "'max_steps': expected 0 or a multiple of 'every', 2, found 3"),
        ({"signing_key": "nowhere.pem"}, "nowhere.pem: no such file"),
        ({"identifier_key": "nowhere.key"}, "'identifier_key': no such file: nowhere.key"),
        ({"output_dir": "out/P003/audit"}, "expected a path without patient identifiers"),
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
