"""The parts of the certificate: chain, keyed hashes, signature, schema."""

import json
import stat

import jsonschema
import pytest

from scripts.certificate.certificate import SCHEMA_FILE, SCHEMA_VERSION
from scripts.certificate.chain import broken, content_sha256, link
from scripts.certificate.identifiers import Identifiers, make_key, read_key
from scripts.data.volumes import Volume

KEY = b"0123456789abcdef"


def volume(name: str, patient: str) -> Volume:
    return Volume(name, name, (1, 1, 8, 8), (8, 8), None, "matrix", 1.0, {"patient_id": patient})


def test_chain_finds_every_change():
    entries = [{"kind": kind, "sha256": kind * 8} for kind in ("train", "unlearn", "audit")]
    chain = link(entries)
    assert broken(chain) == []
    assert broken([chain[0], {**chain[1], "sha256": "0"}, chain[2]]) == [1]
    assert broken([chain[0], chain[2]]) == [1]
    assert broken([chain[1], chain[0], chain[2]]) == [0, 1, 2]
    relinked = link([entries[0], {"kind": "unlearn", "sha256": "0"}])[1]
    assert broken([chain[0], relinked, chain[2]]) == [2]


def test_content_hash_does_not_depend_on_order_but_on_content():
    assert content_sha256({"a": [1, 2], "b": "ü"}) == content_sha256({"b": "ü", "a": [1, 2]})
    assert content_sha256({"a": [1, 2]}) != content_sha256({"a": [2, 1]})


def test_identifiers_leave_no_name_behind():
    identifiers = Identifiers(KEY, [volume("site_b/MEIER^ANNA_1.h5", "P017"), volume("x.h5", "7")])
    content = {"reason": "P017 withdrew; see site_b/MEIER^ANNA_1.h5 (MEIER^ANNA_1), not P0171", "n": [7, "P017"]}
    text = json.dumps(identifiers.redact(content))
    assert "MEIER" not in text
    assert "P0171" in text
    assert not identifiers.found_in(text.replace("P0171", ""))
    assert identifiers.found_in("out/P017/a")
    assert identifiers.redact({"n": 7}) == {"n": 7}


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


def test_signature(tmp_path):
    pytest.importorskip("cryptography")
    from scripts.certificate.signature import make_keys, sign, signature_holds

    private, public = make_keys(tmp_path)
    with pytest.raises(FileExistsError, match="there is a key already"):
        make_keys(tmp_path)
    file = tmp_path / "certificate.json"
    file.write_text("content")
    signature = sign(file, private)
    assert signature_holds(file, public)
    other = make_keys(tmp_path / "other")[1]
    assert not signature_holds(file, other)
    file.write_text("content!")
    assert not signature_holds(file, public)
    with open(signature, "w") as stream:
        stream.write("no signature")
    assert not signature_holds(file, public)
    with pytest.raises(ValueError, match=r"signing_key.pem: expected an Ed25519 public key"):
        signature_holds(file, private)
    with pytest.raises(ValueError, match=r"signing_key.pub.pem: expected an unencrypted Ed25519 private key"):
        sign(file, public)


def test_schema_is_a_schema_of_this_version():
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema_version"] == {"const": SCHEMA_VERSION}
