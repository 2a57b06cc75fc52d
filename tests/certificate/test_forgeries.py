"""Forgeries, each found by name. Where the forger has no key, all that needs none is made to fit again."""

import copy as copies
import json
import shutil
from pathlib import Path

import pytest

from scripts.audit.gates import control, judge, overall
from scripts.audit.provenance import doubts, provenance_problems
from scripts.audit.statistics import Statistics
from scripts.certificate.checks import FAILS
from scripts.certificate.scans import measures_of, results_of
from scripts.certificate.signature import make_keys, sign
from scripts.certificate.verify import main, verify_certificate
from scripts.evaluation.results import summarise, write_results
from scripts.files import file_sha256, json_sha256
from tests.certificate.conftest import QUICK, run

RESULTS = ("verdict", "gates", "control", "declared", "models", "measures", "provenance")


class Forger:
    """Has the whole folder but neither the signing key nor, unless it is stated, the data."""

    def __init__(self, folder: Path, statement: dict) -> None:
        self.folder, self.work, self.audit = folder, folder / "work", folder / "work" / "audit"
        self.statement = statement
        self.content = statement["predicate"]

    def judge(self) -> None:
        """Gates, control and verdict follow again from measures, scans and provenance as they are now."""
        stated, found = self.content["audit"], self._measures()
        provenance = stated["provenance"]
        problems = provenance_problems(provenance["runs"], provenance["audit"], self.content["weights"])
        provenance["problems"] = problems
        gates = stated["declared"]["gates"]
        stated["gates"] = [judge(gate, stated["measures"]) for gate in gates]
        stated["control"] = control(gates, found["control"])
        stated["verdict"] = overall(stated["gates"], stated["control"]["sees_remembering"], doubts(problems))

    def measure(self) -> None:
        """All follows again from the results of the scans as they are now; metrics.csv too."""
        stated, found = self.content["audit"], self._measures()
        stated["measures"].update({name: value for name, value in found.items() if name != "control"})
        rows = results_of(self.content["scans"])
        stated["models"] = summarise(rows)
        write_results(rows, self.audit / "metrics.csv")
        self.judge()

    def write(self) -> None:
        """Write what is forged: audit.json says the same, its hash and those of all outputs are new."""
        record = json.loads((self.audit / "audit.json").read_text())
        record.update({name: self.content["audit"][name] for name in RESULTS})
        (self.audit / "audit.json").write_text(json.dumps(record))
        self.content["audit"]["configuration_sha256"] = json_sha256(record["configuration"])
        self.content["outputs"] = {name: file_sha256(self.audit / name) for name in self.content["outputs"]}
        self.save()

    def save(self) -> None:
        """Write the certificate alone; its signature no longer fits and goes."""
        (self.audit / "certificate.json").write_text(json.dumps(self.statement))
        (self.audit / "certificate.dsse.json").unlink(missing_ok=True)

    def _measures(self) -> dict:
        declared = self.content["audit"]["declared"]
        names = ("confidence", "bootstrap_samples", "seed", "equivalence_margins")
        return measures_of(self.content["scans"], Statistics(*(declared[n] for n in names)), declared["subgroups"])


@pytest.fixture
def forger(copy, statement) -> Forger:
    return Forger(copy, statement)


def failed(forger: Forger, **options) -> list[str]:
    found = verify_certificate(forger.audit / "certificate.json", **options)
    return [what for verdict, what in found if verdict == FAILS]


def test_the_forger_leaves_honest_work_alone(forger):
    before = copies.deepcopy(forger.content)
    forger.measure()
    assert {**forger.content, "outputs": 0} == {**before, "outputs": 0}
    forger.write()
    assert failed(forger) == []


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
    forger.judge()


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
    forger.measure()


def narrow_intervals(forger):
    forger.content["audit"]["declared"]["confidence"] = 0.01
    declare_again(forger)
    forger.measure()


def declared_earlier(forger):
    forger.content["declaration"]["created"] = "2020-01-01T00:00:00+0000"
    other_bootstrap(forger)
    forger.content["method"]["declaration"] = forger.content["declaration"]["sha256"]


def declared_too_late(forger):
    forger.content["declaration"]["created"] = "2199-01-01T00:00:00+0000"


def volume_dropped(forger):
    dropped = next(scan for scan in forger.content["scans"] if scan["cohort"] == "KTA")
    forger.content["scans"].remove(dropped)
    forger.measure()


def volume_dropped_and_denied(forger):
    dropped = next(scan for scan in forger.content["scans"] if scan["cohort"] == "KTA")
    forger.content["scans"].remove(dropped)
    forger.content["audit"]["provenance"]["audit"]["evaluated"]["KTA"].remove(dropped["sha256"])
    forger.measure()


def volume_dropped_and_record_edited(forger):
    volume_dropped_and_denied(forger)
    facts = forger.content["audit"]["provenance"]["runs"]["unlearned"][0]
    facts["evaluated"]["KTA"] = forger.content["audit"]["provenance"]["audit"]["evaluated"]["KTA"]
    forger.judge()


def swapped_cohorts(forger):
    swap = {"UA": "KTA", "KTA": "UA", "BTA": "BTA"}
    for scan in forger.content["scans"]:
        scan["cohort"] = swap[scan["cohort"]]
    forger.measure()


def swapped_cohorts_throughout(forger):
    swapped_cohorts(forger)
    evaluated = forger.content["audit"]["provenance"]["audit"]["evaluated"]
    evaluated["UA"], evaluated["KTA"] = evaluated["KTA"], evaluated["UA"]
    forger.judge()


def patients_unknown(forger):
    for scan in forger.content["scans"]:
        scan["patient"] = ""
    forger.measure()


def results_dropped_of_one_model(forger):
    forger.content["scans"][0]["results"].pop("oracle")


def doubts_denied(forger):
    forger.content["audit"]["provenance"]["runs"]["oracle"][0]["data"]["training"] = None


def oracle_saw_the_forget_set(forger):
    facts = forger.content["audit"]["provenance"]["runs"]["oracle"][0]
    facts["data"]["training"] = sorted(facts["data"]["training"] + [forger.content["forget_files"][0]["sha256"]])
    forger.judge()
    verdict(forger)


def oracle_record_edited(forger):
    """The oracle was trained on a forget file; its certified facts leave that out."""
    path = forger.work / "oracle.json"
    record = json.loads(path.read_text())
    forget = forger.content["forget_files"][0]["sha256"]
    record["data"]["training"]["volumes"].append({"volume": "x", "bytes": 1, "sha256": forget})
    path.write_text(json.dumps(record))
    for entry in forger.content["records"]:
        entry["sha256"] = file_sha256(path) if entry["model"] == "oracle" else entry["sha256"]
    forger.content["audit"]["provenance"]["runs"]["oracle"][0]["record"] = file_sha256(path)


def record_of_another_run(forger):
    record = json.loads((forger.work / "unlearned.json").read_text())
    record["seed"], record["method"] = 77, "another"
    (forger.work / "unlearned.json").write_text(json.dumps(record))
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


def new_weights(forger):
    shutil.copyfile(forger.work / "original.pt", forger.work / "unlearned.pt")


def picture(forger):
    (forger.audit / "panels.png").write_bytes((forger.work / "audit" / "hallucination.png").read_bytes())


P = ("predicate",)
FORGERIES = [
    (verdict, "verdict follows from gates, control and provenance: stated 'forgotten'"),
    (gaps, "measure oracle_gap follows"),
    (put(*P, "audit", "gates", 0, "value", 0.123), "gates follow"),
    (put(*P, "audit", "gates", 0, "verdict", "not measured"), "gates follow"),
    (put(*P, "audit", "control", "sees_remembering", None), "schema: $.audit.control"),
    (put(*P, "audit", "models", "unlearned", "KTA", "psnr", "mean", 0.0), "means of each model follow"),
    (put(*P, "audit", "measures", "membership", "gain", "auc", "value", 0.5), "measure membership follows"),
    (put(*P, "audit", "measures", "hallucination", "oracle_gap", "value", 0.0), "measure hallucination follows"),
    (wide_margins, "declared before the unlearning run"),
    (other_bootstrap, "declared before the unlearning run"),
    (narrow_intervals, "declared before the unlearning run"),
    (declared_earlier, "declaration of the run is its record's"),
    (declared_too_late, "the times are in order"),
    (put(*P, "audit", "declared", "gates", 0, "at_least", -50.0), "gates and margins are the declared ones"),
    (put(*P, "method", "seed", 99), "seed of the run is its record's"),
    (put(*P, "method", "method", "gradient_ascent"), "method of the run is its record's"),
    (put(*P, "method", "configuration_sha256", "0" * 64), "configuration sha256 of the run is its record's"),
    (put(*P, "retain_subset", "fraction", 0.01), "retain subset: fraction is its record's"),
    (put(*P, "retain_subset", "seed", 99), "retain subset: seed is its record's"),
    (put(*P, "retain_subset", "files", []), "retain files are its record's"),
    (put(*P, "request", "reason", "0" * 64), "request: reason is its record's"),
    (put(*P, "request", "selectors", [{"anatomy": "brain"}]), "request: selectors is its record's"),
    (put(*P, "oracle_seen", "compared_with_after_unlearning", False), "oracle seen"),
    (put(*P, "forget_files", 0, "sha256", "0" * 64), "forget files are its record's"),
    (put(*P, "datalist", "sha256", "0" * 64), "datalist: SHA-256"),
    (volume_dropped, "scans of each cohort are those that the audit evaluated"),
    (volume_dropped_and_denied, "files of KTA: other ones than the run's"),
    (volume_dropped_and_record_edited, "record of unlearned: origin as certified"),
    (swapped_cohorts, "scans of each cohort are those that the audit evaluated"),
    (swapped_cohorts_throughout, "UA is the forget set of the request"),
    (results_dropped_of_one_model, "each model has a result on each scan"),
    (doubts_denied, "problems of origin are stated as they are"),
    (oracle_saw_the_forget_set, "verdict follows from gates, control and provenance"),
    (oracle_record_edited, "record of oracle: origin as certified"),
    (oracle_is_the_audited, "problems of origin are stated as they are"),
    (oracle_saved_once_more, "weights oracle: SHA-256 of the tensors"),
    (record_of_another_run, "seed of the run is its record's"),
    (record_left_out, "every run's record is named"),
    (put(*P, "weights", "G", "sha256", "0" * 64), "original: other weights than those that the run started from"),
    (put(*P, "audit", "provenance", "audit", "mask", {"acceleration": 8}), "mask: another one than the run's"),
    (put("subject", 0, "digest", "sha256", "0" * 64), "subject is the unlearned weights of the predicate"),
    (new_weights, "subject: unlearned.pt is what the certificate is about"),
    (picture, "output panels.png: SHA-256"),
    (put(*P, "statement", "All traces are gone."), "schema: $.statement"),
    (put(*P, "outputs", {}), "schema: $.outputs"),
    (put("predicateType", "urn:something:else"), "form: predicateType"),
    (put("_type", "https://in-toto.io/Statement/v0.1"), "form: _type"),
]


@pytest.mark.parametrize(("forge", "message"), FORGERIES, ids=[f"{i}: {m}" for i, (_, m) in enumerate(FORGERIES)])
def test_forged(forger, tiny_datalist, forge, message, capsys):
    forge(forger)
    forger.save()
    found = failed(forger, datalist=tiny_datalist)
    assert any(message in what for what in found), found
    with pytest.raises(SystemExit) as end:
        main(str(forger.audit / "certificate.json"), datalist=tiny_datalist)
    assert end.value.code == 1
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (gaps, "measure oracle_gap follows"),
        (wide_margins, "the run's record holds its hash"),
        (other_bootstrap, "the run's record holds its hash"),
        (volume_dropped, "scans of each cohort are those that the audit evaluated"),
        (swapped_cohorts, "scans of each cohort are those that the audit evaluated"),
    ],
)
def test_forged_with_every_hash_made_to_fit(forger, tiny_datalist, forge, message):
    forge(forger)
    forger.write()
    found = failed(forger, datalist=tiny_datalist)
    assert any(message in what for what in found), found
    assert not any("SHA-256" in what or "figures are those" in what for what in found)


def test_patients_taken_apart_to_narrow_the_intervals(forger, tiny_datalist):
    results = (forger.audit / "metrics.csv").read_bytes()
    patients_unknown(forger)
    (forger.audit / "metrics.csv").write_bytes(results)
    forger.write()
    assert failed(forger, datalist=tiny_datalist) == ["results of each scan are those of metrics.csv"]


def better_results(forger):
    for scan in forger.content["scans"]:
        scan["results"]["unlearned"] = dict(scan["results"]["oracle"])
        if "oracle" in scan["null_space"]:
            scan["null_space"]["unlearned"] = dict(scan["null_space"]["oracle"])
    forger.measure()


def test_results_made_up_throughout_are_found_by_evaluating_again(forger, tiny_datalist, capsys):
    """No key, every file at hand: what fits together is only found by its signature, or from data and weights."""
    better_results(forger)
    forger.write()
    assert failed(forger, datalist=tiny_datalist) == []
    path = str(forger.audit / "certificate.json")
    with pytest.raises(SystemExit) as end:
        main(path, datalist=tiny_datalist)
    assert end.value.code == 2
    with pytest.raises(SystemExit) as end:
        main(path, datalist=tiny_datalist, recompute=True)
    assert end.value.code == 1
    assert "FAILS:       recomputed: unlearned on scan 00001 (BTA); psnr certified" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(path, public_key=str(forger.folder / "keys" / "signing_key.pub.pem"))
    assert end.value.code == 1


def test_a_scan_exchanged_in_the_data_is_found(forger, tiny_datalist):
    data = shutil.copytree(Path(tiny_datalist).parent, forger.folder / "data")
    for name in [entry["kspace"] for entry in json.loads(Path(tiny_datalist).read_text())["test"]][:1]:
        (data / name).write_bytes((data / name).read_bytes() + b"\0")
    assert any(what.startswith("file of scan") for what in failed(forger, datalist=data / "datalist.json"))


def test_a_replayed_signature(forger, tmp_path):
    """The envelope of an honest certificate beside another one."""
    public = forger.folder / "keys" / "signing_key.pub.pem"
    envelope = (forger.audit / "certificate.dsse.json").read_bytes()
    forger.content["created"] = "2199-01-01T00:00:00+0000"
    forger.save()
    (forger.audit / "certificate.dsse.json").write_bytes(envelope)
    assert failed(forger, public_key=public) == ["certificate.dsse.json holds this certificate and no other"]


def test_signatures_by_others_and_of_other_bytes(forger, tmp_path):
    public = forger.folder / "keys" / "signing_key.pub.pem"
    certificate = forger.audit / "certificate.json"
    private, other = make_keys(tmp_path / "other")
    assert any("no valid signature" in what for what in failed(forger, public_key=other))
    sign(certificate, private)
    assert any("no valid signature" in what for what in failed(forger, public_key=public))
    content = json.loads((forger.audit / "certificate.dsse.json").read_text())
    content["signatures"] = []
    (forger.audit / "certificate.dsse.json").write_text(json.dumps(content))
    assert any("no valid signature" in what for what in failed(forger, public_key=public))
    content["payloadType"] = "text/plain"
    (forger.audit / "certificate.dsse.json").write_text(json.dumps(content))
    assert any("payload type 'text/plain'" in what for what in failed(forger, public_key=public))


def test_a_key_given_twice_is_refused(forger):
    text = (forger.audit / "certificate.json").read_text()
    (forger.audit / "certificate.json").write_text(text.replace('"created"', '"statement": "", "created"', 1))
    with pytest.raises(ValueError, match="a key is given twice"):
        failed(forger)


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


def test_an_oracle_of_another_request(forger, tiny_datalist):
    folder = forger.folder / "other"
    request = {"request_id": "other", "reason": "other", "forget": [{"patient_id": "P000"}]}
    settings = {"datalist": tiny_datalist, "check_values": False, "forget_request": request}
    run("train", train_epochs=1, oracle=True, output_dir=str(folder), **settings)
    result, _ = audit_again(forger, tiny_datalist, oracle_weights=str(folder / "oracle.pt"))
    problems = result["provenance"]["problems"]["oracle"]
    assert "2 forget files were in its training" in problems
    assert "its training files are not the original's without the forget files" in problems
