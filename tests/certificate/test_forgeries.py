"""Forgeries, each found by name. Where the forger has no key, all that needs none is made to fit again."""

import copy as copies
import json
import shutil

import pytest

from scripts.certificate.again import differences
from scripts.certificate.checks import FAILS, HOLDS, UNCHECKED
from scripts.certificate.signature import make_keys, sign
from scripts.certificate.verify import main, verify_certificate
from scripts.run.files import file_sha256, json_sha256
from tests.certificate.conftest import QUICK, root_of, run
from tests.certificate.forger import Forger


def test_the_forger_leaves_honest_work_alone(forger):
    before = copies.deepcopy(forger.content)
    forger.judge()
    assert {**forger.content, "outputs": 0} == {**before, "outputs": 0}
    forger.write()
    assert forger.failed() == []


def put(*place):
    *parents, last, value = place

    def change(forger: Forger) -> None:
        node = forger.statement
        for key in parents:
            node = node[key]
        node[last] = value

    return change


def verdict(forger):
    forger.content["audit"]["verdict"]["verdict"] = "forgotten"


def gaps(forger):
    for cohort in ("KTA", "UA"):
        for part in ("gap", "above", "below"):
            entry = forger.content["audit"]["measures"]["oracle_gap"][cohort]["psnr"][part]
            entry.update(value=0.0, interval=[-0.1, 0.1])


def wide_margins(forger):
    for gate in forger.content["audit"]["declared"]["gates"]:
        gate.update({key: 100.0 if key == "at_most" else -100.0 for key in gate if key.startswith("at_")})
    declare_again(forger)
    forger.judge()


def declare_again(forger):
    declared = copies.deepcopy(forger.content["audit"]["declared"])
    forger.content["declaration"].update(declared=declared, sha256=json_sha256(declared))


def other_bootstrap(forger):
    forger.content["audit"]["declared"]["seed"] = 1234
    declare_again(forger)
    forger.judge()


def narrow_intervals(forger):
    forger.content["audit"]["declared"]["confidence"] = 0.01
    declare_again(forger)
    forger.judge()


def declared_earlier(forger):
    forger.content["declaration"]["created"] = "2020-01-01T00:00:00+0000"
    other_bootstrap(forger)
    forger.content["method"]["declaration"] = forger.content["declaration"]["sha256"]


def declared_too_late(forger):
    forger.content["declaration"]["created"] = "2199-01-01T00:00:00+0000"


def volume_dropped_and_denied(forger):
    forger.content["audit"]["provenance"]["audit"]["evaluated"]["KTA"].pop()
    forger.judge()


def cohorts_exchanged(forger):
    evaluated = forger.content["audit"]["provenance"]["audit"]["evaluated"]
    evaluated["UA"], evaluated["KTA"] = evaluated["KTA"], evaluated["UA"]
    forger.judge()


def volume_counted_twice(forger):
    evaluated = forger.content["audit"]["provenance"]["audit"]["evaluated"]
    evaluated["BTA"].append(evaluated["BTA"][0])
    forger.judge()


def exact_by_word(forger):
    """An approximate run that states to be exact needs no measure of what it forgot."""
    stated = forger.content["audit"]
    stated["forgetting"] = {"how": "exact", "shown": "replayed", "text": "exact", "kept_alone": True}
    forger.judge()


def exact_by_record(forger):
    """The same, with the record's facts to fit: it would have to have opened a prior, and no forgotten scan."""
    forger.content["audit"]["provenance"]["runs"]["unlearned"][0]["forgetting"] = "exact"
    exact_by_word(forger)


def volume_dropped_and_record_edited(forger):
    volume_dropped_and_denied(forger)
    facts = forger.content["audit"]["provenance"]["runs"]["unlearned"][0]
    facts["evaluated"]["KTA"] = forger.content["audit"]["provenance"]["audit"]["evaluated"]["KTA"]
    forger.judge()


def doubts_denied(forger):
    forger.content["audit"]["provenance"]["runs"]["oracle"][0]["data"]["training"] = None


def oracle_saw_the_forget_set(forger):
    facts = forger.content["audit"]["provenance"]["runs"]["oracle"][0]
    facts["data"]["training"] = sorted(facts["data"]["training"] + [forger.content["forget_files"][0]["sha256"]])
    forger.judge()
    verdict(forger)


def record_of_another_run(forger):
    record = json.loads((forger.work / "unlearned.json").read_text())
    (forger.work / "unlearned.json").write_text(json.dumps({**record, "seed": 77}))


def record_exchanged(forger):
    """The record of another run, in the folder and in the certificate, whose other facts are those of the first."""
    record_of_another_run(forger)
    sha256 = file_sha256(forger.work / "unlearned.json")
    for entry in forger.content["records"]:
        entry["sha256"] = sha256 if entry["model"] == "unlearned" else entry["sha256"]
    forger.content["audit"]["provenance"]["runs"]["unlearned"][0]["record"] = sha256


def record_left_out(forger):
    forger.content["records"] = [entry for entry in forger.content["records"] if entry["model"] != "oracle"]


def oracle_is_the_audited(forger):
    forger.content["weights"]["oracle"] = dict(forger.content["weights"]["unlearned"])


def oracle_saved_once_more(forger):
    forger.content["weights"]["oracle"]["tensors_sha256"] = forger.content["weights"]["unlearned"]["tensors_sha256"]


def declared_after_the_run(forger):
    """The declaration that the run's record holds is gone; a new one says that it was made before the audit."""
    forger.content["audit"]["declared"]["seed"] = 1234
    declare_again(forger)
    forger.content["declaration"].update(before="the audit", created=forger.content["created"])
    forger.judge()


def guard_in_other_letters(forger):
    """A gate that fails, but for a failure that no verdict knows: the first letter is Cyrillic."""
    forger.content["audit"]["declared"]["gates"][4]["guards"] = "\u0455uppression"
    declare_again(forger)


def forget_files_retained(forger):
    facts = forger.content["audit"]["provenance"]["runs"]["unlearned"][0]
    facts["data"]["retain"] = sorted({*facts["data"]["retain"], forger.content["forget_files"][0]["sha256"]})
    forger.judge()


def second_subject(forger):
    forger.statement["subject"].append({"name": "another.pt", "digest": {"sha256": "0" * 64}})


def new_weights(forger):
    shutil.copyfile(forger.work / "original.pt", forger.work / "unlearned.pt")


def picture(forger):
    (forger.audit / "panels.png").write_bytes((forger.work / "audit" / "hallucination.png").read_bytes())


P = ("predicate",)
FORGERIES = {
    "other forget file": (put(*P, "forget_files", 0, "sha256", "0" * 64), "UA is the forget set of the request"),
    "other datalist": (put(*P, "datalist", "sha256", "0" * 64), "datalist is the one of the audit"),
    "record of another run": (record_of_another_run, "record of unlearned, unlearned.json: SHA-256"),
    "edited verdict": (verdict, "verdict follows from gates, control and provenance: 'forgotten'"),
    "edited gaps": (gaps, "gates follow from the measures"),
    "edited value of a gate": (put(*P, "audit", "gates", 0, "value", 0.123), "gates follow"),
    "gate denied a result": (put(*P, "audit", "gates", 0, "verdict", "not measured"), "gates follow"),
    "control denied": (put(*P, "audit", "control", "sees_remembering", None), "schema: $.audit.control"),
    "margins at 100 dB": (wide_margins, "the run's record holds its hash"),
    "another seed of the bootstrap": (other_bootstrap, "the run's record holds its hash"),
    "narrow intervals": (narrow_intervals, "the run's record holds its hash"),
    "declared too late": (declared_too_late, "the times are in order"),
    "declared after the run": (declared_after_the_run, "the run's record holds the hash of an earlier declaration"),
    "certificate older than its run": (put(*P, "created", "2000-01-01T00:00:00+0000"), "declaration and run, then the"),
    "edited margin": (
        put(*P, "audit", "declared", "gates", 0, "at_least", -50.0),
        "gates and margins are the declared ones",
    ),
    "guard in other letters": (guard_in_other_letters, "expected one of under-forgetting"),
    "method hidden as if redacted": (
        put(*P, "method", "configuration_sha256", "[0123456789abcdef]"),
        "schema: $.method",
    ),
    "volume dropped and denied": (volume_dropped_and_denied, "files of KTA: other ones than the run's"),
    "volume counted twice": (volume_counted_twice, "no scan is counted twice"),
    "doubts about the oracle denied": (doubts_denied, "problems of origin are stated as they are"),
    "oracle trained on the forget set": (
        oracle_saw_the_forget_set,
        "verdict follows from gates, control and provenance",
    ),
    "audited weights as oracle": (oracle_is_the_audited, "problems of origin are stated as they are"),
    "audited weights saved once more as oracle": (oracle_saved_once_more, "weights oracle: SHA-256 of the tensors"),
    "forget files retained": (forget_files_retained, "retain files hold no forget file"),
    "record left out": (record_left_out, "every run's record is named"),
    "other original": (
        put(*P, "weights", "G", "sha256", "0" * 64),
        "original: other weights than those that the run started from",
    ),
    "exact by word": (exact_by_word, "measures of forgetting are left out of an exact run alone"),
    "cohorts exchanged": (cohorts_exchanged, "UA is the forget set of the request"),
    "other mask": (
        put(*P, "audit", "provenance", "audit", "mask", {"acceleration": 8}),
        "mask: another one than the run's",
    ),
    "other subject": (put("subject", 0, "digest", "sha256", "0" * 64), "subject is the unlearned weights"),
    "no subject": (put("subject", []), "subject is the unlearned weights"),
    "two subjects": (second_subject, "and nothing else"),
    "second digest of the subject": (put("subject", 0, "digest", "sha512", "0" * 128), "and nothing else"),
    "old certificate on new weights": (new_weights, "subject: unlearned.pt is what the certificate is about"),
    "other picture": (picture, "output panels.png: SHA-256"),
    "promise in place of the statement": (
        put(*P, "statement", "No formal guarantee needed."),
        "schema: $.statement",
    ),
    "limits left out": (put(*P, "limits", ["None."]), "schema: $.limits"),
    "outputs left out": (put(*P, "outputs", {}), "schema: $.outputs"),
    "other predicate type": (put("predicateType", "urn:something:else"), "form: predicateType"),
    "other statement type": (put("_type", "https://in-toto.io/Statement/v0.1"), "form: _type"),
    "verdict in a field that nothing reads": (
        put("verdict", "forgotten"),
        "nothing beside the statement's",
    ),
    "field that nothing reads in the predicate": (put(*P, "approved_by", "FDA"), "schema: $"),
    "endless bootstrap": (put(*P, "audit", "declared", "bootstrap_samples", 10**12), "schema: $.audit.declared"),
    "results of nonsense": (
        put(*P, "audit", "provenance", "runs", "G", [{"record": "x"}]),
        "schema: $.audit.provenance",
    ),
}


REPEATED = {
    "edited seed of the run": (put(*P, "method", "seed", 99), "method, seed"),
    "edited method": (put(*P, "method", "method", "gradient_ascent"), "method, method"),
    "edited configuration": (put(*P, "method", "configuration_sha256", "0" * 64), "method, configuration_sha256"),
    "other ledger line": (put(*P, "method", "ledger", {"line": 1, "line_sha256": "0" * 64}), "method, ledger"),
    "declared earlier": (declared_earlier, "method, declaration"),
    "edited retain fraction": (put(*P, "retain_subset", "fraction", 0.01), "retain_subset, fraction"),
    "edited seed of the retain subset": (put(*P, "retain_subset", "seed", 99), "retain_subset, seed"),
    "retain files left out": (put(*P, "retain_subset", "files", []), "retain_subset, files"),
    "edited reason": (put(*P, "request", "reason", "0" * 64), "request, reason"),
    "edited request": (put(*P, "request", "selectors", [{"anatomy": "brain"}]), "request, selectors"),
    "oracle seen, denied": (
        put(*P, "oracle_seen", "compared_with_after_unlearning", False),
        "oracle_seen, compared_with_after_unlearning",
    ),
    "oracle used for the settings, denied": (
        put(*P, "oracle_seen", "used_to_choose_settings", False),
        "oracle_seen, used_to_choose_settings",
    ),
    "other forget file": (put(*P, "forget_files", 0, "sha256", "0" * 64), "forget_files"),
    "other datalist": (put(*P, "datalist", "sha256", "0" * 64), "datalist, sha256"),
    "volume dropped and record edited": (volume_dropped_and_record_edited, "scans, KTA"),
    "oracle trained on other files": (doubts_denied, "provenance, oracle"),
    "exact by record": (exact_by_record, "provenance, unlearned"),
    "record exchanged": (record_exchanged, "records"),
}


@pytest.mark.parametrize(("forge", "part"), REPEATED.values(), ids=REPEATED)
def test_what_is_not_as_record_and_data_say_is_found_by_a_rerun(forger, again, forge, part):
    forge(forger)
    assert (FAILS, f"rerun: {part}: as record and data say") in list(differences(forger.content, again))


def test_an_honest_certificate_is_what_a_rerun_states(forger, again):
    assert [what for verdict, what in differences(forger.content, again) if verdict != HOLDS] == []
    other = {**again, "identifiers": {**again["identifiers"], "key_id": "0" * 16}, "request": {}}
    assert [verdict for verdict, _ in differences(forger.content, other) if verdict != HOLDS] == [UNCHECKED]


@pytest.mark.parametrize(("forge", "message"), FORGERIES.values(), ids=FORGERIES)
def test_forged(forger, forge, message, capsys):
    forge(forger)
    forger.save()
    found = forger.failed()
    assert any(message in what for what in found), found
    with pytest.raises(SystemExit) as end:
        main(str(forger.audit / "certificate.json"))
    assert end.value.code == 1
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (gaps, "gates follow from the measures"),
        (wide_margins, "the run's record holds its hash"),
        (other_bootstrap, "the run's record holds its hash"),
        (volume_dropped_and_denied, "files of KTA: other ones than the run's"),
        (cohorts_exchanged, "UA is the forget set of the request"),
    ],
)
def test_forged_with_every_hash_made_to_fit(forger, forge, message):
    forge(forger)
    forger.write()
    found = forger.failed()
    assert any(message in what for what in found), found
    assert not any("SHA-256" in what for what in found)


def test_a_replayed_signature(forger, tmp_path):
    """The envelope of an honest certificate beside another one."""
    public = forger.folder / "keys" / "signing_key.pub.pem"
    envelope = (forger.audit / "certificate.dsse.json").read_bytes()
    forger.content["created"] = "2199-01-01T00:00:00+0000"
    forger.save()
    (forger.audit / "certificate.dsse.json").write_bytes(envelope)
    assert forger.failed(public_key=public) == ["certificate.dsse.json holds this certificate and no other"]


def test_signatures_by_others_and_of_other_bytes(forger, tmp_path):
    public = forger.folder / "keys" / "signing_key.pub.pem"
    certificate = forger.audit / "certificate.json"
    private, other = make_keys(tmp_path / "other")
    assert any("no valid signature" in what for what in forger.failed(public_key=other))
    sign(certificate, private)
    assert any("no valid signature" in what for what in forger.failed(public_key=public))
    content = json.loads((forger.audit / "certificate.dsse.json").read_text())
    content["signatures"] = []
    (forger.audit / "certificate.dsse.json").write_text(json.dumps(content))
    assert any("no valid signature" in what for what in forger.failed(public_key=public))
    content["payloadType"] = "text/plain"
    (forger.audit / "certificate.dsse.json").write_text(json.dumps(content))
    assert any("payload type 'text/plain'" in what for what in forger.failed(public_key=public))


def test_a_key_given_twice_is_refused(forger):
    text = (forger.audit / "certificate.json").read_text()
    (forger.audit / "certificate.json").write_text(text.replace('"created"', '"statement": "", "created"', 1))
    with pytest.raises(ValueError, match="a key is given twice"):
        forger.failed()


def audit_again(forger: Forger, tiny_datalist, **overrides) -> tuple[dict, list[str]]:
    """A new audit, by the verb, as a cheat would run it; its result and what fails of its certificate."""
    work = forger.work
    weights = {"weights": str(work / "original.pt"), "unlearned_weights": str(work / "unlearned.pt")}
    output = {"datalist": tiny_datalist, "output_dir": str(work / "cheat")}
    run("audit", **{**weights, **QUICK, **output, **overrides})
    found = verify_certificate(work / "cheat" / "certificate.json")
    return json.loads((work / "cheat" / "audit.json").read_text()), [what for v, what in found if v == FAILS]


def test_weights_as_their_own_oracle(forger, tiny_datalist):
    shutil.copyfile(forger.work / "unlearned.pt", forger.folder / "oracle.pt")
    shutil.copyfile(forger.work / "oracle.json", forger.folder / "records.json")
    result, _ = audit_again(forger, tiny_datalist, oracle_weights=str(forger.folder / "oracle.pt"))
    assert result["verdict"]["verdict"] != "forgotten"
    assert "its weights are those of unlearned" in result["provenance"]["problems"]["oracle"]


def test_an_audit_at_another_acceleration(forger, tiny_datalist):
    with pytest.raises(RuntimeError) as error:
        audit_again(forger, tiny_datalist, **{"mask#acceleration": 2})
    assert "declaration.json: settings/mask: declared on" in root_of(error.value)
    record = json.loads((forger.work / "unlearned.json").read_text())
    (forger.work / "unlearned.json").write_text(json.dumps({**record, "declaration": None}))
    (forger.work / "declaration.json").unlink()
    result, found = audit_again(forger, tiny_datalist, **{"mask#acceleration": 2})
    assert "mask: another one than the run's" in result["provenance"]["problems"]["run"]
    assert result["verdict"]["verdict"] != "forgotten"
    assert any("audit and run agree" in what and "mask: another one than the run's" in what for what in found)


def test_an_audit_beside_another_original(forger, tiny_datalist):
    folder = forger.folder / "other"
    run("train", train_epochs=1, seed=5, output_dir=str(folder), datalist=tiny_datalist, check_values=False)
    _, found = audit_again(
        forger, tiny_datalist, weights=str(folder / "original.pt"), oracle_weights=str(forger.work / "oracle.pt")
    )
    assert any("original: other weights than those that the run started from" in what for what in found)


def test_another_network_than_the_hashed_one(forger, tiny_datalist):
    """The original's network under the name of the unlearned one, whose file is stated."""
    other = f"scripts.networks.load_weights(@network, '{forger.work}/oracle.pt')"
    models = f"$dict(scripts.audit.audited_models(@network, @all_weights), unlearned={other})"
    with pytest.raises(RuntimeError) as error:
        audit_again(forger, tiny_datalist, models=models, certificate=False)
    assert "audit: 'models': unlearned: expected the tensors of" in root_of(error.value)


def test_an_oracle_of_another_request(forger, tiny_datalist):
    folder = forger.folder / "other"
    request = {"request_id": "other", "reason": "other", "forget": [{"patient_id": "P000"}]}
    settings = {"datalist": tiny_datalist, "check_values": False, "forget_request": request}
    run("train", train_epochs=1, oracle=True, output_dir=str(folder), **settings)
    result, _ = audit_again(forger, tiny_datalist, oracle_weights=str(folder / "oracle.pt"))
    problems = result["provenance"]["problems"]["oracle"]
    assert "2 forget files were in its training" in problems
    assert "its training files are not the original's without the forget files" in problems


def made_up_throughout(forger) -> None:
    """Every measure is as if the model were the oracle's equal, and all that needs no key fits."""

    def perfect(node: object) -> None:
        if isinstance(node, dict):
            if {"value", "interval"} <= set(node):
                node.update(value=0.0, interval=[-0.01, 0.01])
                node.pop("cannot_accept", None)
            for value in node.values():
                perfect(value)

    perfect(forger.content["audit"]["measures"])
    forger.judge()


def test_measures_made_up_throughout_are_found_by_measuring_again(forger, again, capsys):
    """No key, every file at hand: what fits together is only found by its signature, or by a rerun."""
    made_up_throughout(forger)
    forger.write()
    assert forger.failed() == []
    with pytest.raises(SystemExit) as end:
        main(run=str(forger.work))
    assert end.value.code == 1
    assert "FAILS:       ledger: it knows the certified audit" in capsys.readouterr().out
    (forger.work / "ledger.jsonl").unlink()
    with pytest.raises(SystemExit) as end:
        main(run=str(forger.work))
    assert end.value.code == 2
    wrong = [what for verdict, what in differences(forger.content, again) if verdict == FAILS]
    assert any("rerun: " in what and ": 0.000, again" in what for what in wrong)
    with pytest.raises(SystemExit) as end:
        main(run=str(forger.work), public_key=str(forger.folder / "keys" / "signing_key.pub.pem"))
    assert end.value.code == 1
