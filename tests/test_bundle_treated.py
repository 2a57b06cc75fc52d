"""The oracle treated alike, made and audited by the verbs on tiny data."""

import json
import re
import shutil
from pathlib import Path

import pytest

from scripts.certificate.verify import FAILS, verify_certificate
from tests import verbs
from tests.verbs import SMALL, process_as_before

QUICK = {"relearning_steps": 4, "resurfacing_share": 0.1, "statistics#samples": 200}


@pytest.fixture(autouse=True)
def _key(contained, monkeypatch):
    monkeypatch.setenv("MRI_UNLEARNING_KEY", "the key of these tests")


def run(verb: str, *overlays: str, **overrides) -> None:
    verbs.run(verb, *overlays, **{"check_values": False, **SMALL, **overrides})


def unlearn(datalist: str, *overlays: str, **overrides) -> None:
    overlays = (
        overlays if any(name.startswith("methods/") for name in overlays) else ("methods/fine_tune.yaml", *overlays)
    )
    run("unlearn", *overlays, datalist=datalist, **{"unlearn_epochs": 1, "evaluate_models": False, **overrides})


@pytest.fixture(scope="session")
def made(tiny_datalist, tmp_path_factory) -> Path:
    """Original, oracle, unlearned weights and the oracle treated alike, each with its record."""
    folder = tmp_path_factory.mktemp("treated")
    with process_as_before():
        for oracle in (False, True):
            run("train", datalist=tiny_datalist, output_dir=str(folder), oracle=oracle, train_epochs=1)
        unlearn(tiny_datalist, output_dir=str(folder), weights=str(folder / "original.pt"))
        alike = {"like": str(folder / "unlearned.json"), "weights": str(folder / "oracle.pt")}
        unlearn(tiny_datalist, "treated_oracle.yaml", output_dir=str(folder / "alike"), **alike)
    say_what_was_opened(folder / "alike" / "unlearned.json")
    return folder


def say_what_was_opened(path: Path) -> None:
    """The record states what its data sets opened, where the version that made it does not: the retain subset."""
    record = json.loads(path.read_text())
    scans = [{key: entry[key] for key in ("volume", "sha256")} for entry in record["data"]["retain"]["volumes"]]
    weights = [{"file": "oracle.pt", "sha256": record["weights_in"]["sha256"]}]
    path.write_text(json.dumps({**record, "opened": record.get("opened", {"scans": scans, "weights": weights})}))


def audit(datalist: str, folder: Path, output_dir: str, **overrides) -> dict:
    names = {"weights": "original", "oracle_weights": "oracle", "unlearned_weights": "unlearned"}
    weights = {key: str(folder / f"{name}.pt") for key, name in names.items()}
    treated = {"treated_oracle_weights": str(folder / "alike" / "unlearned.pt")}
    run("audit", datalist=datalist, output_dir=output_dir, **{**weights, **treated, **QUICK, **overrides})
    return json.loads(Path(output_dir, "audit.json").read_text())


@pytest.fixture(scope="session")
def audited(tiny_datalist, made) -> Path:
    with pytest.MonkeyPatch.context() as patch, process_as_before():
        patch.setenv("MRI_UNLEARNING_KEY", "the key of these tests")
        audit(tiny_datalist, made, str(made / "audit"))
    return made


def failed(folder: Path) -> list[str]:
    return [what for verdict, what in verify_certificate(folder / "audit" / "certificate.json") if verdict == FAILS]


def test_the_forgotten_kind_is_judged_by_the_oracle_treated_alike(audited):
    record, alike = (json.loads((audited / name).read_text()) for name in ("unlearned.json", "alike/unlearned.json"))
    assert alike["cost"]["steps"] == record["cost"]["steps"]
    result = json.loads((audited / "audit" / "audit.json").read_text())
    assert result["provenance"]["problems"] == {"oracle": [], "treated oracle": [], "run": [], "settings": []}
    assert result["declared"]["treated_oracle"] is True
    found = result["measures"]
    means = {name: result["models"][name]["KTA"]["psnr"]["mean"] for name in ("unlearned", "treated oracle", "oracle")}
    expected = means["unlearned"] - means["treated oracle"]
    assert found["oracle_gap"]["KTA"]["psnr"]["gap"]["value"] == pytest.approx(expected)
    assert found["recipe"]["alone"]["KTA"]["psnr"]["gap"]["value"] == pytest.approx(
        means["treated oracle"] - means["oracle"]
    )
    assert set(found["relearning"]["curves"]) == {"unlearned", "treated oracle"}
    assert found["resurfacing"]["against"] == "the treated oracle, trained on alike"
    for name in ("audit.md", "audit.html"):
        assert "is its recipe and no memory" in (audited / "audit" / name).read_text()
    assert failed(audited) == []


def cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


@pytest.mark.parametrize(
    ("overlays", "changes", "message"),
    [
        ((), {"seed": 1}, "'seed': another one than the audited run's"),
        ((), {"retain_fraction": 0.5, "budget": 0.9}, "'budget': another .*'retain_fraction': another"),
        (("methods/gain_target.yaml",), {}, "'method': another one than the audited run's"),
        ((), {"like": "nowhere.json"}, "'like': expected the record of the run .* no such file: nowhere.json"),
    ],
)
def test_another_treatment_is_refused_before_it_starts(tiny_datalist, made, overlays, changes, message):
    alike = {"like": str(made / "unlearned.json"), "weights": str(made / "oracle.pt"), "output_dir": "alike"}
    with pytest.raises(RuntimeError) as error:
        unlearn(tiny_datalist, *overlays, "treated_oracle.yaml", **{**alike, **changes})
    assert re.search(message, cause(error.value)), cause(error.value)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("unlearned.pt", "not one of unlearn on the oracle's weights"),
        ("oracle.pt", "not one of unlearn on the oracle's weights"),
        ("alone/unlearned.pt", "no record beside its weights"),
        ("other/unlearned.pt", "'seed': another one than the audited run's"),
    ],
)
def test_what_is_none_is_refused_before_the_audit_starts(tiny_datalist, made, weights, message):
    shutil.copytree(made, "copy")
    shutil.copytree("copy/alike", "copy/alone")
    Path("copy/alone/unlearned.json").unlink()
    unlearn(tiny_datalist, output_dir="copy/other", weights="copy/oracle.pt", seed=1, ledger=False)
    with pytest.raises(RuntimeError) as error:
        audit(tiny_datalist, Path("copy"), "refused", treated_oracle_weights=f"copy/{weights}")
    assert message in cause(error.value), cause(error.value)
    assert not Path("refused").exists()


def forged(folder: Path, change) -> Path:
    shutil.copytree(folder, "forged")
    path = Path("forged/audit/certificate.json")
    statement = json.loads(path.read_text())
    change(statement["predicate"])
    path.write_text(json.dumps(statement))
    return Path("forged")


def saw_the_forget_set(content: dict) -> None:
    facts = content["audit"]["provenance"]["runs"]["treated oracle"][0]
    facts["data"]["retain"] = sorted([*facts["data"]["retain"], content["forget_files"][0]["sha256"]])


def other_seed(content: dict) -> None:
    content["audit"]["provenance"]["runs"]["treated oracle"][0]["recipe"]["seed"] = "0" * 64


def not_declared(content: dict) -> None:
    content["audit"]["declared"]["treated_oracle"] = False


def copied(content: dict) -> None:
    tensors = content["weights"]["unlearned"]["tensors_sha256"]
    content["weights"]["treated oracle"]["tensors_sha256"] = tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (saw_the_forget_set, "problems of origin are stated as they are"),
        (other_seed, "problems of origin are stated as they are"),
        (copied, "problems of origin are stated as they are"),
        (not_declared, "the forgotten kind is judged by the declared reference"),
    ],
)
def test_forged(audited, change, message):
    assert any(what.startswith(message) for what in failed(forged(audited, change)))


def test_an_edited_record_is_found(audited):
    folder = forged(audited, lambda content: None)
    record = json.loads((folder / "alike" / "unlearned.json").read_text())
    record["configuration"]["seed"] = 7
    (folder / "alike" / "unlearned.json").write_text(json.dumps(record))
    assert any(what == "record of treated oracle, unlearned.json: SHA-256" for what in failed(folder))


def test_an_audit_without_it_is_not_the_declared_one(tiny_datalist, audited):
    with pytest.raises(RuntimeError) as error:
        audit(tiny_datalist, audited, "again", treated_oracle_weights=None)
    assert "declaration.json: treated_oracle: declared on" in cause(error.value)
