"""An honest certificate verifies, names nobody, and says what was not checked."""

import base64
import json
import re
from pathlib import Path

import pytest

from scripts.audit import project_gates
from scripts.certificate.checks import FAILS, UNCHECKED
from scripts.certificate.verify import main, verify_certificate
from tests.certificate.conftest import QUICK, root_of, run
from tests.verbs import process_as_before


def failed(*arguments, **options) -> list[str]:
    return [what for verdict, what in verify_certificate(*arguments, **options) if verdict == FAILS]


def unchecked(*arguments, **options) -> list[str]:
    return [what for verdict, what in verify_certificate(*arguments, **options) if verdict == UNCHECKED]


def code_of(*arguments, **options) -> int:
    try:
        main(*arguments, **options)
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture
def paths(copy) -> tuple[str, str]:
    """The certificate and the public key of the copy."""
    return str(copy / "work" / "audit" / "certificate.json"), str(copy / "keys" / "signing_key.pub.pem")


def test_an_honest_run_verifies(paths):
    path, key = paths
    given = {"public_key": key, "ledger": str(Path(path).parents[1] / "ledger.jsonl")}
    assert failed(path, **given) == []
    said = "measures, record and data: they are as stated; --rerun takes them again from the run"
    assert unchecked(path, **given) == [said]
    assert code_of(path, **given) == 0
    assert code_of(path.replace(".json", ".dsse.json"), public_key=key) == 0


def test_its_oracle_is_shown_to_be_one_and_its_gates_were_declared_first(statement):
    audit = statement["predicate"]["audit"]
    assert audit["provenance"]["problems"] == {"oracle": [], "run": [], "settings": []}
    assert [len(runs) for runs in audit["provenance"]["runs"].values()] == [1, 1, 2]
    assert not any("differ" in why or "not shown" in why for why in audit["verdict"]["because"])
    assert statement["predicate"]["declaration"]["before"] == "the unlearning run"


def test_unsigned_means_exit_code_2_unless_asked_for(paths, capsys):
    path, key = paths
    assert code_of(path) == 2
    assert "unsigned" in capsys.readouterr().out
    Path(path).with_name("certificate.dsse.json").unlink()
    assert code_of(path) == 2
    assert code_of(path, allow_unsigned=True) == 0
    assert code_of(path, public_key=key) == 1
    assert "FAILS:       signature: there is none" in capsys.readouterr().out


def test_the_envelope_is_one_for_other_tools(paths, statement):
    """Verified by securesystemslib alone, and of the form that in-toto and DSSE ask for."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

    path, key = paths
    content = json.loads(Path(path).with_name("certificate.dsse.json").read_text())
    assert set(content) == {"payload", "payloadType", "signatures"}
    assert content["payloadType"] == "application/vnd.in-toto+json"
    assert json.loads(base64.b64decode(content["payload"])) == statement
    public = SSlibKey.from_crypto(load_pem_public_key(Path(key).read_bytes()))
    assert Envelope.from_dict(content).verify([public], threshold=1)
    assert set(statement) == {"_type", "subject", "predicateType", "predicate"}
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    ((name, digest),) = [(entry["name"], entry["digest"]) for entry in statement["subject"]]
    assert name == "unlearned.pt"
    assert set(digest) == {"sha256"}


def test_it_names_nobody(statement, tiny_datalist):
    text = json.dumps(statement)
    names = [entry["kspace"] for section in json.loads(Path(tiny_datalist).read_text()).values() for entry in section]
    assert not any(name in text or Path(name).stem in text for name in names)
    assert not re.search(r"\bP0\d\d\b", text)
    assert "demo-knee" not in text
    assert "hallucinate" not in text.replace("hallucination", "")
    assert "/tmp" not in text
    assert "no formal guarantee" in statement["predicate"]["statement"]


def test_alone_it_says_what_it_cannot_check(paths, monkeypatch, tmp_path):
    path, _ = paths
    monkeypatch.delenv("MRI_UNLEARNING_KEY")
    alone = tmp_path / "alone" / "certificate.json"
    alone.parent.mkdir()
    alone.write_bytes(Path(path).read_bytes())
    assert failed(alone) == []
    listed = unchecked(alone)
    for what in (
        "signature: there is none",
        "subject: the weights are not here",
        "weights oracle: not here",
        "record of unlearned: not here",
        "output metrics.csv: not here",
        "measures, record and data: they are as stated",
    ):
        assert any(line.startswith(what) for line in listed), what


def test_the_folder_of_the_run_is_all_that_a_rerun_needs(copy, capsys):
    work = copy / "work"
    ledger = (work / "ledger.jsonl").read_bytes()
    with process_as_before():
        assert code_of(run=str(work), public_key=str(copy / "keys" / "signing_key.pub.pem"), rerun=True) == 0
    printed = capsys.readouterr().out
    gates = json.loads((work / "audit" / "audit.json").read_text())["gates"]
    assert len(re.findall(r"holds: +rerun: .*, again", printed)) == len(gates)
    assert "rerun: scans, KTA: as record and data say" in printed
    assert "ledger: it knows the certified audit" in printed
    assert (work / "ledger.jsonl").read_bytes() == ledger
    assert "expected --run FOLDER beside" in code_of(str(work / "audit" / "certificate.json"), rerun=True)
    assert "expected --run FOLDER or the file of a certificate" in code_of()


def test_a_rerun_of_another_run_is_none(copy, capsys):
    work = copy / "work"
    (work / "unlearned.pt").write_bytes((work / "original.pt").read_bytes())
    assert code_of(run=str(work), rerun=True) == 1
    assert "does not hold the certified weights" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"payload": "%"}', '{"_type": 1, "_type": 2}'])
def test_what_is_no_certificate_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "certificate.json").write_text(text)
    message = code_of(str(tmp_path / "certificate.json"))
    assert "certificate.json: " in message
    assert "\n" not in message
    assert "expected a file, found none" in code_of(str(tmp_path / "none.json"))


def test_declared_gates_cannot_be_changed_afterwards(copy, tiny_datalist):
    work = copy / "work"
    wide = [{**gate, "at_most": 100.0} if "at_most" in gate else gate for gate in project_gates()]
    weights = {"weights": str(work / "original.pt"), "unlearned_weights": str(work / "unlearned.pt")}
    changed = {**QUICK, "datalist": tiny_datalist, "output_dir": str(copy / "again"), "gates": wide}
    with pytest.raises(RuntimeError) as error:
        run("audit", **weights, **changed)
    assert re.search(r"declaration.json: gates: declared on 20.*expected the same now", root_of(error.value))
    assert not (copy / "again").exists()
