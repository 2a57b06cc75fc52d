"""What a verb takes from the run that it is about, and what it refuses beside it."""

import json
from pathlib import Path

import pytest

from scripts.run.files import file_sha256
from scripts.run.source import RecordedRun, take

NETWORK = {"_target_": "scripts.networks.VarNet", "chans": 4}
MASK = {"_target_": "scripts.data.EquispacedFractionMask", "acceleration": 3}
REQUEST = {"request_id": "R7", "reason": "by mistake", "forget": [{"anatomy": "knee"}]}
CONFIG = {
    "run": "@audit",
    "run_dir": None,
    "datalist": None,
    "forget_request": {},
    "network": {},
    "mask": {},
    "unlearned_weights": None,
    "original_weights": None,
    "weights": "@original_weights",
    "audit": ["@run_dir", "$f(@weights, @unlearned_weights)", "@datalist", "@forget_request", "@network", "@mask"],
}


@pytest.fixture
def made(tmp_path, monkeypatch) -> Path:
    """A run in outputs/R7 of the folder ``home``, which was the working directory then."""
    home = tmp_path / "home"
    (home / "outputs" / "R7").mkdir(parents=True)
    monkeypatch.chdir(home)
    for name in ("datalist.json", "original.pt", "outputs/R7/unlearned.pt"):
        Path(name).write_text(name)
    write_record(Path("outputs/R7"))
    return home


def entry(path: str) -> dict:
    return {"path": path, "sha256": file_sha256(path)}


def write_record(folder: Path, **changes) -> None:
    record = {
        "verb": "unlearn",
        "datalist": entry("datalist.json"),
        "weights_in": entry("original.pt"),
        "weights_out": entry("outputs/R7/unlearned.pt"),
        "forget_request": REQUEST,
        "configuration": {"network": NETWORK, "mask": MASK, "forget_request": REQUEST, "precision": "bf16"},
    }
    (folder / "unlearned.json").write_text(json.dumps({**record, **changes}))


def taken(**overrides) -> dict:
    return take("audit", {**CONFIG, **overrides}, CONFIG)


EXPECTED = {
    "run": "@audit",
    "run_dir": "outputs/R7",
    "datalist": "datalist.json",
    "forget_request": REQUEST,
    "network": NETWORK,
    "mask": MASK,
    "unlearned_weights": "outputs/R7/unlearned.pt",
    "original_weights": "original.pt",
}


def test_everything_comes_from_the_record(made):
    assert taken(run="outputs/R7") == EXPECTED


def test_a_verb_that_reads_no_run_takes_nothing(made):
    assert take("train", {"network": {}}, {"network": {}}) == {}


def test_what_is_no_part_of_the_configuration_is_not_taken(made):
    config = {"run": "@ship", "run_dir": None, "unlearned_weights": None, "ship": ["@unlearned_weights"]}
    found = take("ship", {**config, "run": "outputs/R7"}, config)
    assert set(found) == {"run", "run_dir", "unlearned_weights"}


def test_relative_paths_are_those_of_the_folder_where_the_run_was_made(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = taken(run="home/outputs/R7")
    assert Path(found["datalist"]).resolve() == (made / "datalist.json").resolve()
    assert Path(found["unlearned_weights"]) == Path("home/outputs/R7/unlearned.pt")


@pytest.mark.parametrize("name", ["datalist.json", "original.pt"])
def test_a_file_that_was_moved_is_named_and_may_be_stated(made, name):
    key, option = {"datalist.json": ("datalist", "datalist"), "original.pt": ("original_weights", "weights")}[name]
    Path(name).rename("moved")
    with pytest.raises(
        FileNotFoundError, match=f"'{key}': expected {name} with SHA-256 .* found no such file.*--{option}"
    ):
        taken(run="outputs/R7")
    found = taken(run="outputs/R7", **{option: "moved"})
    assert found.get(key, "moved") == "moved"


@pytest.mark.parametrize("name", ["datalist.json", "original.pt", "outputs/R7/unlearned.pt"])
def test_a_file_that_was_changed_is_another(made, name):
    Path(name).write_text("changed")
    with pytest.raises(FileNotFoundError, match=r"found another file \(SHA-256"):
        taken(run="outputs/R7")


def test_another_file_in_place_of_a_moved_one_is_refused(made):
    Path("other.json").write_text("other")
    with pytest.raises(ValueError, match="'datalist': expected that of the run, .*found other.json"):
        taken(run="outputs/R7", datalist="other.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network", {**NETWORK, "chans": 8}),
        ("network", {"chans": 8}),
        ("network", {"_target_": "scripts.networks.ReconUnet"}),
        ("mask", {"acceleration": 4}),
        ("forget_request", {**REQUEST, "request_id": "R8"}),
        ("forget_request", {"forget": [{"anatomy": "brain"}]}),
        ("forget_request", "other.yaml"),
    ],
)
def test_what_differs_from_the_runs_is_refused_with_both(made, key, value):
    Path("other.yaml").write_text("request_id: R7\nreason: by mistake\nforget:\n- anatomy: hip\n")
    with pytest.raises(ValueError, match=f"'{key}': expected that of the run, .*, found ") as error:
        taken(run="outputs/R7", **{key: value})
    assert ("8" in str(error.value)) or ("ReconUnet" in str(error.value)) or key != "network"


@pytest.mark.parametrize(
    ("key", "value"),
    [("network", {"chans": 4}), ("mask", MASK), ("forget_request", "same.yaml"), ("datalist", "copy.json")],
)
def test_what_is_the_runs_may_be_stated_again(made, key, value):
    Path("same.yaml").write_text("request_id: R7\nreason: by mistake\nforget:\n- {anatomy: knee}\n")
    Path("copy.json").write_text("datalist.json")
    found = taken(run="outputs/R7", **{key: value})
    assert found.get(key, EXPECTED[key]) == (value if isinstance(value, str) and key != "datalist" else EXPECTED[key])


def test_requests_of_several_files_stay_several(made):
    """The ledger knows each by itself."""
    both = [{**REQUEST, "request_id": name, "forget": [{"patient_id": name}]} for name in ("A", "B")]
    Path("b.json").write_text(json.dumps(both[1]))
    joined = {"request_id": "A, B", "reason": "by mistake; by mistake", "forget": [{"patient_id": p} for p in "AB"]}
    configuration = {"network": NETWORK, "mask": MASK, "forget_request": [both[0], "b.json"]}
    write_record(Path("outputs/R7"), forget_request=joined, configuration=configuration)
    assert taken(run="outputs/R7")["forget_request"] == [both[0], "b.json"]
    Path("b.json").write_text(json.dumps(both[0]))  # which no longer says what the run did
    assert taken(run="outputs/R7")["forget_request"] == joined


def test_without_a_run_the_record_beside_the_weights_counts(made):
    found = taken(unlearned_weights="outputs/R7/unlearned.pt")
    assert {**found, "unlearned_weights": "outputs/R7/unlearned.pt"} == {**EXPECTED, "run_dir": None}
    assert taken(unlearned_weights="outputs/R7/unlearned.pt", mask={"acceleration": 4})["mask"]["acceleration"] == 4
    with pytest.raises(ValueError, match="'network': expected that of the run"):
        taken(unlearned_weights="outputs/R7/unlearned.pt", network={"chans": 8})


def test_a_record_of_other_weights_does_not_count(made):
    Path("outputs/R7/unlearned.pt").write_text("others")
    with pytest.raises(ValueError, match="'datalist' is not stated: add --run outputs/R7"):
        taken(unlearned_weights="outputs/R7/unlearned.pt", weights="original.pt")


def test_records_that_differ_are_not_mixed(made):
    other = Path("other")
    other.mkdir()
    (other / "original.pt").write_text("other")
    configuration = {"network": NETWORK, "mask": {**MASK, "acceleration": 8}}
    write_record(other, weights_out=entry("other/original.pt"), configuration=configuration, verb="train")
    (other / "unlearned.json").rename(other / "original.json")
    weights = {"one": "outputs/R7/unlearned.pt", "other": "other/original.pt"}
    with pytest.raises(ValueError, match=r"differ in 'mask', so state which counts: .*: 3.* has .*: 8"):
        taken(weights=weights)
    assert taken(weights=weights, mask=MASK, unlearned_weights="outputs/R7/unlearned.pt")["mask"] == MASK


def test_without_anything_the_line_to_type_is_said(made):
    with pytest.raises(ValueError, match="audit: expected --run FOLDER, .*: add --run outputs/R7$"):
        taken()
    Path("outputs/R7/unlearned.json").unlink()
    with pytest.raises(ValueError, match="unlearn writes it, by default outputs/<request_id>$"):
        taken()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "unlearned.json").unlink(), "found a folder without one"),
        (lambda folder: folder.rename("elsewhere"), "found no such folder"),
        (lambda folder: (folder / "unlearned.json").write_text("["), "expected the record of a run"),
        (lambda folder: (folder / "unlearned.json").write_text("[]"), "expected the record of a run"),
        (lambda folder: (folder / "unlearned.json").write_text("{}"), "an object without configuration, weights_out"),
    ],
)
def test_no_run(made, spoil, message):
    spoil(Path("outputs/R7"))
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        taken(run="outputs/R7")


def test_the_folder_is_given_by_run_alone(made):
    with pytest.raises(ValueError, match="'run_dir': expected --run FOLDER in its place, found 'outputs/R7'"):
        taken(run_dir="outputs/R7")


@pytest.mark.parametrize("given", [True, ["a"], {"a": 1}, "$1 + 1"])
def test_a_run_is_a_folder(made, given):
    with pytest.raises(ValueError, match="'run': expected the folder of a finished run"):
        taken(run=given)


@pytest.mark.parametrize(
    ("declared", "made_again"),
    [
        ("$scripts.phantoms.phantom_datalist()", True),
        ("$scripts.phantoms.phantom_datalist(matrix=(64, 64), num_test={'brain': 8})", True),
        ("$scripts.phantoms.phantom_datalist(print(1))", False),
        ("$scripts.phantoms.phantom_datalist() + str(print(1))", False),
        ("$__import__('os').system('true')", False),
        ("elsewhere.json", False),
    ],
)
def test_of_a_records_expressions_the_phantoms_alone_are_taken(made, declared, made_again):
    Path("datalist.json").unlink()
    configuration = {"datalist": declared}
    write_missing = {"datalist": {"path": "datalist.json", "sha256": "0" * 64}, "configuration": configuration}
    record = json.loads(Path("outputs/R7/unlearned.json").read_text())
    Path("outputs/R7/unlearned.json").write_text(json.dumps({**record, **write_missing}))
    run = RecordedRun.open("outputs/R7")
    if made_again:
        assert run.value("datalist") == declared
    else:
        with pytest.raises(FileNotFoundError, match="'datalist'"):
            run.value("datalist")


def test_a_training_is_a_run_too(made):
    record = json.loads(Path("outputs/R7/unlearned.json").read_text())
    Path("train").mkdir()
    Path("train/original.pt").write_text("trained")
    record |= {"verb": "train", "weights_out": entry("train/original.pt"), "weights_in": None}
    Path("train/original.json").write_text(json.dumps(record))
    run = RecordedRun.open("train")
    assert run.value("original_weights") == "train/original.pt"
    assert (run.value("oracle_weights"), run.value("unlearned_weights")) == (None, None)
    Path("train/oracle.pt").write_text("oracle")
    assert run.value("oracle_weights") == "train/oracle.pt"


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"network": {"_target_": "os.system", "command": "touch ran"}}, "'network'.*torch.nn.Module.*'os.system'"),
        ({"network": {**NETWORK, "chans": {"_target_": "os.system", "command": "touch ran"}}}, "'network#chans'"),
        ({"network": {**NETWORK, "chans": "$__import__('os').system('touch ran')"}}, "'network#chans'.*plain value"),
        ({"network": {**NETWORK, "_requires_": "x"}}, "'network'.*plain arguments, found '_requires_'"),
        ({"mask": {"_target_": "subprocess.run", "args": ["touch", "ran"]}}, "'mask'.*'subprocess.run'"),
    ],
)
def test_a_record_names_no_code_that_runs(made, block, said):
    configuration = {"network": NETWORK, "mask": MASK, "forget_request": REQUEST, **block}
    write_record(Path("outputs/R7"), configuration=configuration)
    with pytest.raises(ValueError, match=said):
        taken(run="outputs/R7")
    assert not Path("ran").exists()


def test_a_record_names_any_network_and_the_user_anything(made):
    for target in ("torch.nn.Identity", "SwinUNETR", "collections.OrderedDict"):
        network = {"_target_": target}
        configuration = {"network": network, "mask": MASK, "forget_request": REQUEST}
        write_record(Path("outputs/R7"), configuration=configuration)
        stated = {"network": network} if target.startswith("collections") else {}
        assert taken(run="outputs/R7", **stated)["network"] == network
