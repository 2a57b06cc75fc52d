"""Attacks on how a certificate is read: its text, its envelope, the files beside it, the ledger, the terminal."""

import base64
import json
import re
import shutil

import pytest

from scripts.audit import project_gates
from scripts.certificate.checks import FAILS, HOLDS, UNCHECKED
from scripts.certificate.signature import make_keys, sign
from scripts.certificate.verify import main, verify_certificate
from tests.certificate.conftest import QUICK, root_of, run


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"created"', '"statement": "", "created"', "a key is given twice"),
        ('"slices": 2', '"slices": NaN', "NaN is no finite number"),
        ('"slices": 2', '"slices": -Infinity', "-Infinity is no finite number"),
        ('"slices": 2', '"slices": 1e999', "1e999 is no finite number"),
        ('"slices": 2', f'"slices": {"9" * 400}', "a number of 400 digits"),
        ('"created": "', '"created": "\\ud800', "surrogates not allowed"),
        ('"slices": 2', f'"slices": {"[" * 100_000}', "maximum recursion depth|too deeply nested"),
    ],
    ids=["key twice", "NaN", "infinity", "overflow", "long number", "half a character", "deep nesting"],
)
def test_text_that_two_readers_may_read_differently_is_refused(forger, old, new, message):
    path = forger.audit / "certificate.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"certificate.json: expected a JSON certificate.*({message})"):
        forger.failed()


def test_names_cannot_write_over_the_lines_of_the_terminal(forger, capsys):
    """An oracle whose name erases the line that says what is wrong with it."""
    forger.content["weights"]["oracle \x1b[2K\rholds: all"] = dict(forger.content["weights"]["oracle"])
    forger.judge()
    forger.save()
    with pytest.raises(SystemExit) as end:
        main(str(forger.audit / "certificate.json"))
    assert end.value.code == 2  # unsigned
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\r" not in printed
    assert "oracle \\x1b[2K\\rholds: all" in printed


def envelope_of(forger) -> dict:
    return json.loads((forger.audit / "certificate.dsse.json").read_text())


def write_envelope(forger, content: dict) -> None:
    (forger.audit / "certificate.dsse.json").write_text(json.dumps(content))


def test_a_second_signature_neither_helps_nor_harms(forger, tmp_path):
    public = forger.folder / "keys" / "signing_key.pub.pem"
    honest = envelope_of(forger)["signatures"]
    private, other = make_keys(tmp_path / "other")
    sign(forger.audit / "certificate.json", private)
    forged = envelope_of(forger)
    write_envelope(forger, {**forged, "signatures": forged["signatures"] + honest})
    assert forger.failed(public_key=public) == []
    under_another_name = [{**forged["signatures"][0], "keyid": honest[0]["keyid"]}]
    write_envelope(forger, {**forged, "signatures": under_another_name})
    assert forger.failed(public_key=public) == ["signature by the given key: no valid signature by the given key"]
    write_envelope(forger, {**forged, "signatures": under_another_name + honest})
    assert "Multiple signatures found" in " ".join(forger.failed(public_key=public))
    twice = json.dumps({**forged, "signatures": honest}).replace('"payload"', '"payload": "e30=", "payload"', 1)
    (forger.audit / "certificate.dsse.json").write_text(twice)
    with pytest.raises(ValueError, match="a key is given twice"):
        forger.failed(public_key=other)


def test_a_replayed_signature_over_other_content(forger):
    """The honest signature on a payload that says something else."""
    public = forger.folder / "keys" / "signing_key.pub.pem"
    forger.content["audit"]["verdict"]["verdict"] = "forgotten"
    payload = base64.b64encode(json.dumps(forger.statement).encode()).decode()
    write_envelope(forger, {**envelope_of(forger), "payload": payload})
    found = verify_certificate(forger.audit / "certificate.dsse.json", public_key=public)
    assert (FAILS, "signature by the given key: no valid signature by the given key") in found


def test_an_old_signed_certificate_on_new_weights(forger):
    public = forger.folder / "keys" / "signing_key.pub.pem"
    shutil.copyfile(forger.work / "original.pt", forger.work / "unlearned.pt")
    assert forger.failed(public_key=public) == [
        "subject: unlearned.pt is what the certificate is about",
        "weights unlearned: SHA-256",
    ]


@pytest.mark.parametrize(
    ("dropped", "listed"),
    [
        ("audit/audit.json", "output audit.json: not here"),
        ("audit/metrics.csv", "output metrics.csv: not here"),
        ("audit/panels.png", "output panels.png: not here"),
        ("unlearned.json", "record of unlearned: not here"),
        ("oracle.json", "record of oracle: not here"),
        ("unlearned.pt", "subject: the weights are not here"),
        ("original.pt", "weights G: not here"),
    ],
)
def test_of_a_file_that_was_dropped_nothing_is_said_to_hold(forger, dropped, listed):
    (forger.work / dropped).unlink()
    found = verify_certificate(forger.audit / "certificate.json")
    assert [what for verdict, what in found if verdict == FAILS] == []
    assert (UNCHECKED, listed) in found
    beginning = listed.partition(":")[0] + ":"
    assert not any(what.startswith(beginning) for verdict, what in found if verdict == HOLDS)


@pytest.mark.parametrize("name", ["audit.json", "metrics.csv"])
def test_a_file_exchanged_for_a_folder_or_a_link_to_another(forger, name):
    path = forger.audit / name
    path.unlink()
    path.symlink_to(forger.work / "unlearned.json")
    assert f"output {name}: SHA-256" in forger.failed()
    path.unlink()
    path.mkdir()
    assert (UNCHECKED, f"output {name}: not here") in verify_certificate(forger.audit / "certificate.json")


def ledger_of(forger) -> tuple[str, list[dict]]:
    path = forger.work / "ledger.jsonl"
    return str(path), [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path: str, lines: list[dict]) -> None:
    with open(path, "w") as file:
        file.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)


def test_the_ledger_knows_run_and_audit(forger):
    path, _ = ledger_of(forger)
    found = verify_certificate(forger.audit / "certificate.json", ledger=path)
    assert [what for verdict, what in found if verdict == HOLDS and what.startswith("ledger: ")] == [
        f"ledger: it has line {forger.content['ledger']['line']}, with which it ended when this was certified",
        "ledger: its run has the certified record",
        "ledger: its run erased the certified forget files",
        "ledger: the run's line is the one that the run's record holds",
        "ledger: it knows the certified audit",
    ]
    assert forger.failed(ledger=path) == []


def test_an_edited_ledger_line(forger):
    path, lines = ledger_of(forger)
    lines[-1]["verdict"] = "forgotten"
    write_lines(path, lines)
    (problem,) = forger.failed(ledger=path)
    assert f"ledger.jsonl, line {len(lines)}: 'mac': its content does not agree with its keyed hash" in problem


def test_a_ledger_line_cut_out_or_off(forger):
    path, lines = ledger_of(forger)
    write_lines(path, lines[:-2] + lines[-1:])
    assert "a line was removed, added or exchanged there" in forger.failed(ledger=path)[0]
    write_lines(path, lines[:-1])
    last = f"ledger: it has line {len(lines)}, with which it ended when this was certified"
    assert forger.failed(ledger=path) == [last, "ledger: it knows the certified audit"]
    write_lines(path, lines[:1])
    assert "ledger: it knows no run that made these weights" in forger.failed(ledger=path)


def test_a_ledger_written_anew_with_its_key(forger):
    """Who has the key can write any ledger, but the run's record remembers the line of the first."""
    from scripts.requests.ledger import Ledger

    path, lines = ledger_of(forger)
    known = ("number", "previous", "time", "event", "mac")
    facts = [{key: value for key, value in line.items() if key not in known} for line in lines]
    begun = next(number for number, line in enumerate(lines) if line["event"] == "begun")
    facts[begun]["requests"][0]["request_id"] = "another"
    (forger.work / "ledger.jsonl").unlink()
    anew = Ledger(path)
    for line, fact in zip(lines[1:], facts[1:], strict=True):
        anew.append(line["event"], **fact)
    last = f"ledger: it has line {len(lines)}, with which it ended when this was certified"
    assert forger.failed(ledger=path) == [last, "ledger: the run's line is the one that the run's record holds"]


def test_a_ledger_set_back_after_a_bad_audit(forger):
    """Copied, a bad audit entered and certified, restored: the bad certificate remembers a line that is gone."""
    from scripts.requests.ledger import Ledger

    path, lines = ledger_of(forger)
    bad = Ledger(path)
    bad.append(
        "audited", weights=forger.content["weights"]["unlearned"]["sha256"], verdict="bad", audit_sha256="0" * 64
    )
    forger.content["ledger"] = {"line": len(bad.lines), "line_sha256": bad.line_hash(len(bad.lines))}
    forger.save()
    assert not any("with which it ended" in what for what in forger.failed(ledger=path))
    write_lines(path, lines)
    assert any("with which it ended when this was certified" in what for what in forger.failed(ledger=path))


def test_an_audit_in_no_ledger_says_so(forger):
    forger.content["ledger"] = None
    forger.save()
    found = verify_certificate(forger.audit / "certificate.json")
    assert (
        UNCHECKED,
        "ledger: the audit was entered in none, so that nobody knows of others of these weights",
    ) in found


def test_a_ledger_without_its_key_is_not_checked(forger, monkeypatch):
    path, _ = ledger_of(forger)
    monkeypatch.delenv("MRI_UNLEARNING_KEY")
    found = verify_certificate(forger.audit / "certificate.json", ledger=path)
    assert (UNCHECKED, "ledger: its key is not here") in found
    with pytest.raises(FileNotFoundError, match="'ledger': no such file"):
        forger.failed(ledger=path + ".gone")


def test_audits_until_one_pleases_are_listed(forger):
    from scripts.requests.ledger import Ledger

    path, _ = ledger_of(forger)
    ledger = Ledger(path)
    weights = forger.content["weights"]["unlearned"]["sha256"]
    ledger.append("audited", weights=weights, verdict="suppressed", audit_sha256="0" * 64)
    found = verify_certificate(forger.audit / "certificate.json", ledger=path)
    assert (UNCHECKED, "ledger: 1 other audits of these weights, with the verdicts suppressed") in found


def test_the_audit_asks_for_the_declaration_that_the_record_holds(forger, tiny_datalist):
    """Deleted, and deleted and declared anew with wider margins."""
    work = forger.work
    settings = {**QUICK, "datalist": tiny_datalist, "output_dir": str(forger.folder / "again")}
    settings |= {"weights": str(work / "original.pt"), "unlearned_weights": str(work / "unlearned.pt")}
    held = json.loads((work / "unlearned.json").read_text())["declaration"]
    (work / "declaration.json").unlink()
    for found in ("none", "[0-9a-f]{64}"):
        with pytest.raises(RuntimeError) as error:
            run("audit", **settings)
        message = rf"what was declared before the unlearning run \(SHA-256 {held} in .*\), found {found}"
        assert re.search(message, root_of(error.value))
        settings["gates"] = [{**gate, "at_most": 100.0} if "at_most" in gate else gate for gate in project_gates()]
        run("declare", "declare.yaml", **settings)
    assert not (forger.folder / "again").exists()
