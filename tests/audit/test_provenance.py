"""An oracle is one only by its records, and an audit is of a run only where both read the same."""

import copy
import json

import pytest
import torch

from scripts.audit.gates import overall
from scripts.audit.provenance import doubts, lineage, origin, provenance_problems, record_facts, weights_hashes
from scripts.networks import save_weights
from scripts.run.files import file_sha256

SETTINGS = {"network": {"chans": 4}, "mask": {"acceleration": 4}, "loss_function": {"w": 1}, "datalist": "list"}
NONE = {"oracle": [], "run": [], "settings": []}
EVALUATED = {"BTA": ["t1"], "UA": ["f1", "f2"]}


def run(verb, weights_in, weights_out, handlers=0, **data):
    facts = {"record": weights_out + ".json", "verb": verb, "handlers": handlers, "weights_in": weights_in}
    facts |= {"opened": None, "recipe": {"epochs": "0"}, "forgetting": None, "prior": None, "code": "c"}
    return {**facts, "weights_out": weights_out, **SETTINGS, "data": data, "evaluated": {}}


def honest():
    """(runs, audit, weights) of an audit with one oracle that leaves nothing to be desired."""
    unlearn = run("unlearn", "g", "u", 2, retain=["r1"], forget=["f1", "f2"])
    runs = {
        "G": [run("train", None, "g", training=["f1", "f2", "r1", "r2"])],
        "oracle": [run("train", None, "o", training=["r1", "r2"])],
        "unlearned": [{**unlearn, "evaluated": EVALUATED}],
    }
    weights = {
        name: {"sha256": name[0].lower(), "tensors_sha256": name} for name in ("G", "oracle", "query", "unlearned")
    }
    return runs, {**SETTINGS, "data": {"forget": ["f1", "f2"]}, "evaluated": EVALUATED, "changed": []}, weights


def test_an_honest_audit_has_no_problem():
    assert provenance_problems(*honest()) == NONE
    assert doubts(NONE) == []


def put(place, value):
    def change(runs, audit, weights):
        node = {"runs": runs, "audit": audit, "weights": weights}
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value

    return change


FINE_TUNED = run("unlearn", "o", "t", 0, retain=["r1"], forget=["f1", "f2"])
ORACLE_CHEATS = [
    (["weights", "oracle", "sha256"], "u", "its weights are those of unlearned"),
    (["weights", "oracle", "tensors_sha256"], "unlearned", "its weights are those of unlearned"),
    (["weights", "oracle", "sha256"], "g", "its weights are those of G"),
    (["weights", "oracle", "sha256"], "x", "its record is of other weights"),
    (["runs", "oracle"], [], "no record beside its weights"),
    (["runs", "G"], [], "no record of the original's training"),
    (["runs", "oracle", 0, "verb"], "unlearn", "no record of its training by the verb train"),
    (["runs", "oracle", 0, "weights_in"], "g", "no record of its training by the verb train"),
    (["runs", "oracle", 0, "data", "training"], ["f1", "r1", "r2"], "1 forget files were in its training"),
    (["runs", "oracle", 0, "data", "training"], ["r1"], "not the original's without the forget files"),
    (["runs", "oracle", 0, "data", "training"], ["r1", "r2", "x"], "not the original's without the forget files"),
    (["runs", "oracle", 0, "data", "training"], None, "the records state no hash"),
    (["runs", "G", 0, "data", "training"], None, "the records state no hash"),
    (["runs", "G", 0, "data", "training"], ["f1", "r1", "r2"], "not trained on every forget file"),
    (["runs", "oracle", 0, "mask"], {"acceleration": 8}, "mask: another one than the original's"),
    (["runs", "oracle", 0, "network"], {"chans": 8}, "network: another one than the original's"),
    (["runs", "oracle", 0, "loss_function"], {"w": 0}, "loss_function: another one than the original's"),
    (["runs", "oracle", 0, "recipe"], {"epochs": "1"}, "'epochs': another one than the original's training's"),
    (["runs", "oracle", 0, "opened"], {"scans": ["f1", "r1"], "weights": []}, "1 forget files were in its training"),
]


@pytest.mark.parametrize(("place", "value", "message"), ORACLE_CHEATS)
def test_what_is_no_oracle(place, value, message):
    made = honest()
    put(place, value)(*made)
    problems = provenance_problems(*made)
    assert any(message in problem for problem in problems["oracle"]), problems
    assert "oracle: oracle not shown to be one: " in doubts(problems)[0]


def test_fine_tuning_on_retain_files_may_follow_and_nothing_else():
    runs, audit, weights = honest()
    runs["oracle"].insert(0, FINE_TUNED)
    weights["oracle"]["sha256"] = "t"
    assert provenance_problems(runs, audit, weights)["oracle"] == []
    for change in ({"handlers": 1}, {"verb": "train"}):
        runs["oracle"][0] = {**FINE_TUNED, **change}
        assert "followed by more" in provenance_problems(runs, audit, weights)["oracle"][0]
    runs["oracle"][0] = {**FINE_TUNED, "weights_in": "g"}
    assert "do not follow from each other" in provenance_problems(runs, audit, weights)["oracle"][0]


def test_each_further_oracle_is_asked_for_its_own_record():
    runs, audit, weights = honest()
    weights["oracle 2"] = {"sha256": "o", "tensors_sha256": "oracle 2"}
    runs["oracle 2"] = copy.deepcopy(runs["oracle"])
    assert provenance_problems(runs, audit, weights)["oracle 2"] == ["its weights are those of oracle"]


def test_files_that_were_forgotten_before_stay_out_of_the_oracle():
    runs, audit, weights = honest()
    runs["G"] = [
        run("unlearn", "g0", "g", 2, retain=["r1"], forget=["e"]),
        run("train", None, "g0", training=["e", "f1", "f2", "r1", "r2"]),
    ]
    assert provenance_problems(runs, audit, weights)["oracle"] == []
    runs["oracle"][0]["data"]["training"] = ["e", "r1", "r2"]
    assert provenance_problems(runs, audit, weights)["oracle"] == ["1 forget files were in its training"]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["audit", "mask"], {"acceleration": 8}, "mask: another one than the run's"),
        (["audit", "network"], {"chans": 8}, "network: another one than the run's"),
        (["audit", "datalist"], "other", "datalist: another one than the run's"),
        (["audit", "evaluated"], {"BTA": ["t1", "t2"], "UA": ["f1", "f2"]}, "files of BTA: other ones"),
        (["audit", "data", "forget"], ["f1"], "forget files: other ones"),
        (["weights", "G", "sha256"], "x", "original: other weights than those that the run started from"),
        (["weights", "unlearned", "sha256"], "x", "unlearned: other weights than those of the run"),
        (["runs", "unlearned", 0, "verb"], "train", "its record is not one of unlearn"),
        (["audit", "loss_function"], {"w": 0}, "loss_function: another one than the run's"),
        (
            ["runs", "G", 0, "loss_function"],
            {"w": 2},
            "loss_function: another one than that of the original's training",
        ),
        (["runs", "unlearned", 0, "forgetting"], "exact", "stated to be exact, but its record states no opened scans"),
    ],
)
def test_an_audit_that_is_not_of_the_run(place, value, message):
    made = honest()
    put(place, value)(*made)
    problems = provenance_problems(*made)
    assert any(message in problem for problem in problems["run"]), problems
    assert any(line.startswith("audit and run differ: ") for line in doubts(problems))


def exact(scans=("r1",), weights=("p",), prior="p"):
    runs, audit, known = honest()
    opened = {"scans": list(scans), "weights": list(weights)}
    runs["unlearned"][0] |= {"forgetting": "exact", "opened": opened, "prior": prior}
    return provenance_problems(runs, audit, known)["run"]


def test_an_exact_run_is_one_by_what_it_opened():
    assert exact() == []
    assert exact(scans=["r1", "f2"]) == ["it is stated to be exact, but opened forgotten scans"]
    assert exact(prior="q") == ["it is stated to be exact, but did not open the prior that its record names"]
    assert exact(scans=[]) == ["it is stated to be exact, but its record states no opened scans"]


def test_settings_that_are_not_the_projects_are_a_doubt():
    runs, audit, weights = honest()
    problems = provenance_problems(runs, {**audit, "changed": ["cohorts", "relearning#training"]}, weights)
    assert doubts(problems) == ["settings that are not the project's: 'cohorts'; 'relearning#training'"]


def test_a_doubt_keeps_the_verdict_at_undecided_and_excuses_nothing():
    passed = [{"name": "a", "guards": "under-forgetting", "verdict": "pass"}]
    assert overall(passed, True)["verdict"] == "forgotten"
    assert overall(passed, True, ["why"]) | {"meaning": 0} == {"verdict": "undecided", "meaning": 0, "because": ["why"]}
    assert overall([{**passed[0], "verdict": "fail"}], True, ["why"])["verdict"] == "not forgotten"


def write(folder, name, value, **record):
    network = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(network.weight, value)
    save_weights(network, folder / f"{name}.pt")
    sha256 = file_sha256(folder / f"{name}.pt")
    record = {"cost": {}, "data": {}, "weights_out": {"sha256": sha256}, **record}
    (folder / f"{name}.json").write_text(json.dumps(record))
    return sha256


def test_the_lineage_is_found_by_hash(tmp_path):
    first = write(tmp_path, "first", 1.0, verb="train")
    second = write(tmp_path, "second", 2.0, verb="unlearn", weights_in={"sha256": first})
    write(tmp_path, "third", 3.0, verb="unlearn", weights_in={"sha256": second})
    (tmp_path / "no_record.json").write_text("[1]")
    (tmp_path / "no_json.json").write_text("{")
    assert [path.stem for path in lineage(tmp_path / "third.pt")] == ["third", "second", "first"]
    assert [facts["verb"] for facts in origin(lineage(tmp_path / "third.pt"))] == ["unlearn", "unlearn", "train"]
    assert [path.stem for path in lineage(tmp_path / "first.pt", tmp_path / "first.json")] == ["first"]
    with pytest.raises(ValueError, match="the record is of other weights"):
        lineage(tmp_path / "first.pt", tmp_path / "second.json")
    (tmp_path / "third.json").unlink()
    assert lineage(tmp_path / "third.pt") == []


def test_tensors_have_a_hash_of_their_own(tmp_path):
    torch.save({"b": torch.ones(2), "a": torch.zeros(1)}, tmp_path / "a.pt")
    torch.save({"a": torch.zeros(1), "b": torch.ones(2)}, tmp_path / "b.pt")
    torch.save({"a": torch.zeros(2), "b": torch.ones(1)}, tmp_path / "c.pt")
    one, same, other = (weights_hashes(tmp_path / f"{name}.pt") for name in "abc")
    assert one["sha256"] != same["sha256"]
    assert one["tensors_sha256"] == same["tensors_sha256"] != other["tensors_sha256"]


def test_facts_name_no_file():
    volumes = [{"volume": "secret.h5", "sha256": "b"}, {"volume": "x", "sha256": "a"}]
    data = {"training": {"slices": 2, "volumes": volumes}}
    facts = record_facts({"data": data, "configuration": {"method": [1], **SETTINGS}, "weights_in": None}, "r")
    assert facts["data"] == {"training": ["a", "b"]}
    assert facts["opened"] is None
    opened = {"scans": [{"volume": "secret", "sha256": "s"}], "weights": [{"file": "w.pt", "sha256": "w"}]}
    stated = record_facts({"data": data, "opened": opened}, "r")["opened"]
    assert stated == {"scans": ["s"], "weights": ["w"]}
    assert facts["handlers"] == 1
    assert "secret" not in json.dumps(facts)
    volumes[0].pop("sha256")
    assert record_facts({"data": data}, "r")["data"] == {"training": None}
