"""The parts of the certificate: chain, keyed hashes, signature, schema."""

import json
import re
import stat
from pathlib import Path

import jsonschema
import pytest

from scripts.audit.audit import GUARANTEE
from scripts.certificate.predicate import LIMITS, SCHEMA_FILE, SCHEMA_VERSION, Identifiers, vocabulary
from scripts.data.volumes import Volume
from scripts.run.keys import make_key, read_key

KEY = b"0123456789abcdef"


def volume(name: str, patient: str) -> Volume:
    return Volume(name, name, (1, 1, 8, 8), (8, 8), None, "matrix", 1.0, {"patient_id": patient})


def test_identifiers_leave_no_name_behind():
    identifiers = Identifiers(KEY, [volume("site_b/MEIER^ANNA_1.h5", "P017"), volume("x.h5", "7")])
    content = {"reason": "P017 withdrew; see site_b/MEIER^ANNA_1.h5 (meier^anna_1), scan_p017_a, not P0171", "n": [7]}
    content["digest"] = "a" * 64
    text = json.dumps(identifiers.redact(content))
    assert "meier" not in text.lower()
    assert "p017_" not in text
    assert "a" * 64 in text
    assert "P0171" in text
    rest = text.replace("P0171", "")
    assert identifiers.redact(rest) == rest
    assert identifiers.redact("out/P017/a") != "out/P017/a"
    assert identifiers.redact({"n": 7}) == {"n": 7}


def test_the_projects_own_words_stay_whatever_folders_are_called():
    scans = [volume("data/oracle.h5", "P1"), volume("knee/networks.h5", "retain"), volume("x/MEIER.h5", "gap")]
    identifiers = Identifiers(KEY, scans)
    content = {
        "data": {"oracle": "trained on data"},
        "network": {"_target_": "scripts.networks.VarNet"},
        "groups": {"anatomy": "knee", "site": "MEIER"},
        "verdict": "forget test set: like the oracle after further training; retain quality",
    }
    redacted = identifiers.redact(content, vocabulary(content))
    assert re.fullmatch(r"\[[0-9a-f]{16}\]", redacted["groups"].pop("site"))
    del content["groups"]["site"]
    assert redacted == content


def test_hashes_need_the_key():
    one, other = Identifiers(KEY), Identifiers(KEY[::-1])
    assert one.hash("patient", "P1") == Identifiers(KEY).hash("patient", "P1") != other.hash("patient", "P1")
    assert one.hash("patient", "P1") != one.hash("file", "P1")
    assert one.key_id != other.key_id
    with pytest.raises(ValueError, match="at least 16 bytes, found 5"):
        Identifiers(b"short")


def test_where_the_key_comes_from(tmp_path, monkeypatch):
    monkeypatch.delenv("MRI_UNLEARNING_KEY", raising=False)
    assert read_key(None) is None
    made = make_key(tmp_path / "new" / "identifiers.key")
    assert made == make_key(tmp_path / "new" / "identifiers.key")
    assert stat.S_IMODE((tmp_path / "new" / "identifiers.key").stat().st_mode) == 0o600
    monkeypatch.setenv("MRI_UNLEARNING_KEY", KEY.decode())
    assert read_key(None) == KEY
    (tmp_path / "short.key").write_text("abc")
    with pytest.raises(ValueError, match=r"short.key: expected a key of at least 16 bytes, found 3"):
        read_key(tmp_path / "short.key")
    with pytest.raises(FileNotFoundError, match="'identifier_key': no such file"):
        read_key(tmp_path / "none.key")


def test_keys(tmp_path):
    pytest.importorskip("securesystemslib")
    from scripts.certificate.signature import make_keys, sign, signature_problem

    private, public = make_keys(tmp_path)
    assert stat.S_IMODE(Path(private).stat().st_mode) == 0o600
    with pytest.raises(FileExistsError, match="there is a key already"):
        make_keys(tmp_path)
    statement = tmp_path / "certificate.json"
    statement.write_text("{}")
    envelope = sign(statement, private)
    assert signature_problem(envelope, public) is None
    assert signature_problem(envelope, make_keys(tmp_path / "other")[1]) == "no valid signature by the given key"
    Path(envelope).write_text("no envelope")
    assert "no DSSE envelope" in signature_problem(envelope, public)
    with pytest.raises(ValueError, match=r"signing_key.pem: expected an Ed25519 public key"):
        signature_problem(envelope, private)
    with pytest.raises(ValueError, match=r"signing_key.pub.pem: expected an unencrypted Ed25519 private key"):
        sign(statement, public)


def test_schema_is_a_schema_of_this_version():
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    stated = {"schema_version": SCHEMA_VERSION, "statement": GUARANTEE, "limits": list(LIMITS)}
    assert {name: schema["properties"][name] for name in stated} == {name: {"const": v} for name, v in stated.items()}
