"""Requests over time: what was erased stays away, wherever it comes from, and the ledger says which weights count."""

import json
import logging
import shutil
from pathlib import Path

import h5py
import pytest

from scripts.requests import Cohorts, check_newest, compared, enter_training, find_ledger, ledger_of, trained_by
from scripts.requests.erasures import erasures
from scripts.requests.ledger import Ledger
from scripts.requests.lineage import training_record
from scripts.run.files import file_sha256
from tests.conftest import write_tiny_volume
from tests.requests.erasing import erase, killed_at, request, write_weights

FIRST, SECOND, THIRD = (
    request("march", {"patient_id": "P0"}),
    request("june", {"anatomy": "knee"}),
    request("autumn", {"patient_id": ["P1", "P2"]}),
)


@pytest.fixture
def datalist(tmp_path) -> str:
    """Five brains of patients P0 to P3 (P0 twice), two knees of P4 and P5, and one brain to validate and to test."""
    patients = {"b0": "P0", "b0again": "P0", "b1": "P1", "b2": "P2", "b3": "P3", "k4": "P4", "k5": "P5"}
    lists = {"training": patients, "validation": {"v8": "P8"}, "test": {"t9": "P9"}}
    content = {}
    for section, names in lists.items():
        for seed, name in enumerate(names):
            write_tiny_volume(tmp_path / f"{name}.h5", seed + 10 * len(section), slices=1)
        content[section] = [
            {"kspace": f"{n}.h5", "patient_id": p, "anatomy": "knee" if n[0] == "k" else "brain"}
            for n, p in names.items()
        ]
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps(content))
    return str(path)


@pytest.fixture
def original(tmp_path) -> Path:
    return write_weights(tmp_path / "original.pt", "original")


@pytest.fixture
def ledger(tmp_path) -> Path:
    return tmp_path / "ledger" / "ledger.jsonl"


def names(volumes) -> list[str]:
    return [Path(volume.name).stem for volume in volumes]


def test_three_requests_one_after_the_other(datalist, original, ledger, tmp_path, caplog):
    first = erase(ledger, datalist, FIRST, original, tmp_path / "first")
    second = erase(ledger, datalist, SECOND, first, tmp_path / "second")
    with caplog.at_level(logging.INFO):
        data = Cohorts(datalist, THIRD, ledger)
        data.log_erased()
    assert names(data.retain) == ["b3"]
    assert names(data.forget) == ["b1", "b2"]
    assert data.erased == {"b0.h5": "march", "b0again.h5": "march", "k4.h5": "june", "k5.h5": "june"}
    assert "left out, erased by request march: b0again.h5" in caplog.text
    third = erase(ledger, datalist, THIRD, second, tmp_path / "third")
    runs = erasures(Ledger(ledger))
    assert [run.name for run in runs] == ["march", "june", "autumn"]
    assert [run.weights_out for run in runs] == [file_sha256(path) for path in (first, second, third)]
    check_newest(ledger, third)


def test_no_patient_stands_in_the_ledger(datalist, original, ledger, tmp_path):
    erase(ledger, datalist, FIRST, original, tmp_path / "first")
    text = ledger.read_text()
    assert "march" in text
    assert all(word not in text for word in ("P0", "b0.h5"))


def test_an_audit_and_a_repetition_still_find_their_own_scans(datalist, original, ledger, tmp_path):
    first = erase(ledger, datalist, FIRST, original, tmp_path / "first")
    assert names(Cohorts(datalist, FIRST, ledger).evaluation()["UA"]) == ["b0", "b0again"]
    erase(ledger, datalist, FIRST, original, tmp_path / "again")  # once more, from the weights before
    erase(ledger, datalist, SECOND, tmp_path / "again" / "unlearned.pt", tmp_path / "second")
    data = Cohorts(datalist, FIRST, ledger)
    assert names(data.forget) == ["b0", "b0again"]
    assert names(data.retain) == ["b1", "b2", "b3"]
    with pytest.raises(ValueError, match="expected the weights with which .* ends .*found older ones"):
        erase(ledger, datalist, FIRST, original, tmp_path / "late")
    with pytest.raises(ValueError, match="found older ones"):
        check_newest(ledger, first)


def test_nothing_trains_on_what_was_erased(datalist, original, ledger, tmp_path):
    erase(ledger, datalist, FIRST, original, tmp_path / "first")
    for asked in (FIRST, SECOND, False):
        data = Cohorts(datalist, asked, ledger)
        assert not {"b0", "b0again"} & {
            *names(data.training(oracle=False)),
            *names(data.retain),
            *names(data.validation),
        }
    assert names(Cohorts(datalist, SECOND, ledger).training(oracle=True)) == ["b1", "b2", "b3"]
    with pytest.raises(
        ValueError, match="forget_only: expected scans that were not erased, found b0.h5, b0again.h5 in the ledg"
    ):
        Cohorts(datalist, FIRST, ledger).training(oracle=False, forget_only=True)


def test_a_request_for_what_was_erased_is_refused_and_one_in_part_takes_the_rest(datalist, original, ledger, tmp_path):
    first = erase(ledger, datalist, FIRST, original, tmp_path / "first")
    with pytest.raises(ValueError, match="'other': every scan that it selects was erased before, by march"):
        erase(ledger, datalist, request("other", {"patient_id": "P0"}), first, tmp_path / "other")
    both = Cohorts(datalist, request("both", {"patient_id": ["P0", "P1"]}), ledger)
    assert names(both.forget) == ["b1"]


def copied(datalist: str, name: str, section: str, strip: bool = False, **fields) -> None:
    """Put a copy in place of the first patient's scan: under another name, perhaps with other attributes."""
    root = Path(datalist).parent
    shutil.copy(root / "b0.h5", root / name)
    if strip:
        with h5py.File(root / name, "r+") as file:
            file.attrs["note"] = "resaved"
    content = json.loads(Path(datalist).read_text())
    for entries in content.values():  # the datalist refuses the same k-space twice
        entries[:] = [entry for entry in entries if entry["kspace"] != "b0.h5"]
    content[section].append({"kspace": name, **fields})
    Path(datalist).write_text(json.dumps(content))


@pytest.mark.parametrize(("section", "strip"), [("training", False), ("training", True), ("validation", True)])
def test_a_copy_of_an_erased_scan_is_known_by_its_content(datalist, original, ledger, tmp_path, section, strip):
    erase(ledger, datalist, FIRST, original, tmp_path / "first")
    copied(datalist, "innocent.h5", section, strip, patient_id="someone else")
    data = Cohorts(datalist, SECOND, ledger)
    assert "innocent.h5" in data.erased
    assert "innocent" not in names([*data.retain, *data.validation])


def test_another_scan_of_an_erased_patient_is_known_by_the_patient(datalist, original, ledger, tmp_path, caplog):
    erase(ledger, datalist, FIRST, original, tmp_path / "first")
    write_tiny_volume(tmp_path / "later.h5", 77, slices=3, patient_id="P0")
    content = json.loads(Path(datalist).read_text())
    content["training"].append({"kspace": "later.h5"})
    content["test"].append({"kspace": "later_test.h5"})
    write_tiny_volume(tmp_path / "later_test.h5", 78, slices=3, patient_id="P0")
    Path(datalist).write_text(json.dumps(content))
    data = Cohorts(datalist, SECOND, ledger)
    assert data.erased["later.h5"] == "march"
    assert names(data.evaluation()["BTA"]) == ["t9"]  # the erased patient is no measure of what stays
    with caplog.at_level(logging.WARNING):
        data.log_erased()
    assert "'test' holds a scan that request march erased: later_test.h5" in caplog.text


def test_a_patient_whose_other_scans_may_stay_is_not_left_out(datalist, original, ledger, tmp_path):
    one = request("one scan", {"kspace": "b0.h5"}, keep_other_scans=True)
    erase(ledger, datalist, one, original, tmp_path / "first")
    data = Cohorts(datalist, SECOND, ledger)
    assert data.erased == {"b0.h5": "one scan"}
    assert "b0again" in names(data.retain)


def test_several_requests_in_one_run(datalist, original, ledger, tmp_path):
    made = erase(ledger, datalist, [FIRST, THIRD], original, tmp_path / "both")
    (run,) = erasures(Ledger(ledger))
    assert sorted(run.requests.values()) == ["autumn", "march"]
    data = Cohorts(datalist, SECOND, ledger)
    assert set(data.erased) == {"b0.h5", "b0again.h5", "b1.h5", "b2.h5"}
    assert set(data.erased.values()) == {"march, autumn"}
    assert names(Cohorts(datalist, [FIRST, THIRD], ledger).forget) == ["b0", "b0again", "b1", "b2"]
    erase(ledger, datalist, SECOND, made, tmp_path / "second")
    with pytest.raises(ValueError, match="requests of different identifiers, at least one, found .'march', 'march'."):
        Cohorts(datalist, [FIRST, FIRST])
    with pytest.raises(ValueError, match="together they select all 7 training volumes"):
        Cohorts(datalist, [FIRST, THIRD, SECOND, request("rest", {"patient_id": "P3"})])


def test_older_and_unknown_weights_are_refused_unless_said(datalist, original, ledger, tmp_path, caplog):
    erase(ledger, datalist, FIRST, original, tmp_path / "first")
    with pytest.raises(
        ValueError, match=r"original.pt: expected the weights with which .* ends \(.*older ones.*come back"
    ):
        erase(ledger, datalist, SECOND, original, tmp_path / "second")
    strange = write_weights(tmp_path / "strange.pt", "strange")
    with pytest.raises(ValueError, match="strange.pt: .*found weights that it does not know"):
        erase(ledger, datalist, SECOND, strange, tmp_path / "second")
    assert not (tmp_path / "second").exists()
    with caplog.at_level(logging.WARNING):
        erase(ledger, datalist, SECOND, original, tmp_path / "second", older_weights=True)
    assert "taken since 'older_weights' is true" in caplog.text
    check_newest(None, original)
    check_newest(False, original)
    check_newest(ledger, original, older_weights=True)


def test_weights_trained_anew_without_all_that_was_erased_go_on(datalist, original, ledger, tmp_path):
    erase(ledger, datalist, FIRST, original, tmp_path / "first")
    anew = write_weights(tmp_path / "anew" / "original.pt", "anew")
    record = tmp_path / "anew" / "original.json"
    record.write_text(json.dumps({"verb": "train", "weights_out": {"sha256": file_sha256(anew)}}))
    lines = ledger.read_text()
    enter_training(ledger, anew.parent, "oracle", enter=True)
    enter_training(ledger, anew.parent, "original", enter=False)
    assert ledger.read_text() == lines
    enter_training(ledger, anew.parent, "original", enter=True)
    second = erase(ledger, datalist, SECOND, anew, tmp_path / "second")
    trained_by = training_record(Ledger(ledger), second)
    assert (ledger.parent / trained_by["path"]).resolve() == record.resolve()
    assert trained_by["sha256"] == file_sha256(record)


def test_the_training_record_is_found_from_the_last_weights(datalist, original, ledger, tmp_path):
    record = original.with_suffix(".json")
    record.write_text(json.dumps({"verb": "train", "weights_out": {"sha256": file_sha256(original)}}))
    first = erase(ledger, datalist, FIRST, original, tmp_path / "first")
    second = erase(ledger, datalist, SECOND, first, tmp_path / "second")
    for weights in (first, second):
        assert (ledger.parent / training_record(Ledger(ledger), weights)["path"]).resolve() == record.resolve()
        assert trained_by(ledger, weights) == str(record)
    record.write_text("{}")
    with pytest.raises(ValueError, match="original.json: expected the training's record as .* remembers it"):
        trained_by(ledger, first)
    assert training_record(None, write_weights(tmp_path / "strange.pt", "strange")) is None


def test_lines_that_were_cut_off_are_missed_by_the_record(datalist, original, ledger, tmp_path):
    first = erase(ledger, datalist, FIRST, original, tmp_path / "first")
    ledger.write_bytes(ledger.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(ValueError, match="ledger.jsonl: expected line 2 as .*unlearned.json remembers it"):
        erase(ledger, datalist, SECOND, first, tmp_path / "second")


def test_the_original_is_the_first_one_and_not_what_an_earlier_request_left(datalist, original, ledger, tmp_path):
    record = {"verb": "train", "weights_out": {"sha256": file_sha256(original)}}
    original.with_suffix(".json").write_text(json.dumps(record))
    first = erase(ledger, datalist, FIRST, original, tmp_path / "first")
    second = erase(ledger, datalist, SECOND, first, tmp_path / "second")
    assert compared(ledger, original) == compared(None, original) == {"original": str(original)}
    for weights in (first, second):
        assert compared(ledger, weights) == {"original": str(original), "before": str(weights)}
    original.write_text("replaced")
    assert compared(ledger, second) == {"before": str(second)}
    assert compared(ledger, False) == {}


def test_runs_beside_each_other_have_one_ledger(tmp_path, monkeypatch):
    monkeypatch.delenv("MRI_UNLEARNING_LEDGER", raising=False)
    assert find_ledger(tmp_path / "outputs" / "first") == str(tmp_path / "outputs" / "ledger.jsonl")
    monkeypatch.chdir(tmp_path)
    assert find_ledger("outputs/second") == find_ledger(tmp_path / "outputs" / "first")
    monkeypatch.setenv("MRI_UNLEARNING_LEDGER", "/records/ledger.jsonl")
    assert find_ledger("outputs/second") == "/records/ledger.jsonl"


def test_a_restart_needs_no_newest_weights(datalist, original, ledger, tmp_path):
    erase(ledger, datalist, FIRST, original, tmp_path / "first", follows=False)
    erase(ledger, datalist, SECOND, original, tmp_path / "second", follows=False)
    assert [run.name for run in erasures(Ledger(ledger))] == ["march", "june"]


def test_another_method_may_start_from_the_same_original(datalist, original, ledger, tmp_path):
    first = erase(ledger, datalist, FIRST, original, tmp_path / "first")
    write_weights(tmp_path / "copy.pt", "original")
    other = erase(ledger, datalist, FIRST, tmp_path / "copy.pt", tmp_path / "other")
    for weights in (first, other):
        check_newest(ledger, weights)
    with pytest.raises(ValueError, match="found weights that it does not know|found older ones"):
        check_newest(ledger, original)


def test_a_request_may_be_repeated_after_its_scans_were_deleted(datalist, original, ledger, tmp_path):
    erase(ledger, datalist, FIRST, original, tmp_path / "first")
    content = json.loads(Path(datalist).read_text())
    content["training"] = [entry for entry in content["training"] if entry["patient_id"] != "P0"]
    Path(datalist).write_text(json.dumps(content))
    for name in ("b0", "b0again"):
        (tmp_path / f"{name}.h5").unlink()
    data = Cohorts(datalist, FIRST, ledger)
    assert data.forget == []
    assert names(data.retain) == ["b1", "b2", "b3", "k4", "k5"]
    with pytest.raises(ValueError, match="'P0' selects none of 5 training volumes"):
        Cohorts(datalist, FIRST)
    with pytest.raises(ValueError, match="expected the scans that the request selects, found none"):
        data.expect_forget_set()


def test_test_scans_that_an_earlier_request_selected_are_no_measure_of_what_stays(datalist, original, ledger, tmp_path):
    write_tiny_volume(tmp_path / "t7.h5", 91, slices=1)
    content = json.loads(Path(datalist).read_text())
    content["test"].append({"kspace": "t7.h5", "patient_id": "P7", "anatomy": "knee"})
    Path(datalist).write_text(json.dumps(content))
    erase(ledger, datalist, SECOND, original, tmp_path / "first")
    assert names(Cohorts(datalist, FIRST, ledger).evaluation()["BTA"]) == ["t9"]
    assert names(Cohorts(datalist, SECOND, ledger).evaluation()["KTA"]) == ["t7"]


def test_what_earlier_requests_erased_is_known_to_an_audit(datalist, original, ledger, tmp_path):
    first = erase(ledger, datalist, FIRST, original, tmp_path / "first")
    second = erase(ledger, datalist, SECOND, first, tmp_path / "second")
    erase(ledger, datalist, THIRD, second, tmp_path / "third")

    def earlier(asked):
        return {request: names(volumes) for request, volumes in Cohorts(datalist, asked, ledger).earlier.items()}

    assert earlier(THIRD) == {"march": ["b0", "b0again"], "june": ["k4", "k5"]}
    assert earlier(SECOND) == {"march": ["b0", "b0again"]}  # autumn came later
    assert earlier(FIRST) == {}


def stream(ledger: Path, datalist: str, original: Path, root: Path) -> None:
    """Three requests, each unless the ledger says that it was carried out."""
    weights = original
    for asked in (FIRST, SECOND, THIRD):
        done = {r: run.weights_out for run in erasures(Ledger(ledger)) for r in run.requests.values()}
        output = root / asked["request_id"]
        if asked["request_id"] not in done:
            erase(ledger, datalist, asked, weights, output)
        weights = output / "unlearned.pt"


def test_a_stream_that_is_killed_before_any_of_its_steps_ends_with_the_same_weights_and_a_whole_ledger(
    datalist, original, tmp_path
):
    stream(tmp_path / "undisturbed.jsonl", datalist, original, tmp_path / "undisturbed")
    expected = file_sha256(tmp_path / "undisturbed" / "autumn" / "unlearned.pt")
    operation, ended = 0, False
    while not ended:
        operation += 1
        root = tmp_path / f"killed-{operation}"
        ended = killed_at(operation, lambda root=root: stream(root / "ledger.jsonl", datalist, original, root))
        stream(root / "ledger.jsonl", datalist, original, root)
        assert file_sha256(root / "autumn" / "unlearned.pt") == expected
        runs = erasures(Ledger(root / "ledger.jsonl"))
        assert [run.name for run in runs] == ["march", "june", "autumn"]
    assert operation > 20  # it was killed at that many places


def test_a_finished_run_knows_its_ledger(datalist, original, ledger, tmp_path):
    erase(ledger, datalist, FIRST, original, tmp_path / "first")
    assert ledger_of(tmp_path / "first") == str(ledger)
    ledger.unlink()
    assert ledger_of(tmp_path / "first") is ledger_of(tmp_path) is ledger_of(None) is None
