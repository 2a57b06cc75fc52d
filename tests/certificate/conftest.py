"""A trained, unlearned and audited tiny network with its certificate, made once for the tests of the folder."""

import json
import shutil
from pathlib import Path

import pytest

from scripts.certificate.again import audit_again
from scripts.certificate.signature import make_keys, sign
from tests import verbs
from tests.certificate.forger import Forger
from tests.verbs import SMALL, process_as_before

KEY = "the key of these tests"
QUICK = {"relearning_steps": 2, "statistics#samples": 200, "check_values": False}


def run(verb: str, *overlays: str, **overrides) -> None:
    """A verb through MONAI, with a small network."""
    with process_as_before():
        verbs.run(verb, *overlays, **{**SMALL, **overrides})


def root_of(error: BaseException) -> str:
    """The message of what went wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


@pytest.fixture(scope="session")
def chain(tiny_datalist, tmp_path_factory) -> Path:
    """Everything that honest work leaves: train, train the oracle, declare, unlearn, audit, sign."""
    pytest.importorskip("securesystemslib")
    folder = tmp_path_factory.mktemp("chain")
    settings = {"datalist": tiny_datalist, "check_values": False}
    work = folder / "work"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRI_UNLEARNING_KEY", KEY)
        settings["ledger"] = str(work / "ledger.jsonl")
        for oracle in (False, True):
            run("train", oracle=oracle, train_epochs=1, output_dir=str(work), **settings)
        weights = {"weights": str(work / "original.pt"), "unlearned_weights": str(work / "unlearned.pt")}
        run("declare", "declare.yaml", datalist=tiny_datalist, output_dir=str(work / "audit"), **weights, **QUICK)
        unlearn = {"weights": weights["weights"], "unlearn_epochs": 1}
        run("unlearn", "methods/fine_tune.yaml", output_dir=str(work), **unlearn, **settings)
        run("audit", run=str(work), **QUICK)
        private, _ = make_keys(folder / "keys")
        sign(work / "audit" / "certificate.json", private)
    return folder


@pytest.fixture(scope="session")
def again(chain) -> dict:
    """What the honest audit states when it is done once more: with it a rerun compares."""
    ledger = (chain / "work" / "ledger.jsonl").read_bytes()
    with pytest.MonkeyPatch.context() as patch, process_as_before():
        patch.setenv("MRI_UNLEARNING_KEY", KEY)
        found = audit_again(chain / "work", chain / "work" / "audit")
    assert (chain / "work" / "ledger.jsonl").read_bytes() == ledger
    return found


@pytest.fixture
def copy(chain, tmp_path, monkeypatch) -> Path:
    """A copy of that folder, to be forged."""
    monkeypatch.setenv("MRI_UNLEARNING_KEY", KEY)
    return shutil.copytree(chain, tmp_path / "copy")


@pytest.fixture
def statement(copy) -> dict:
    """The copy's certificate."""
    return json.loads((copy / "work" / "audit" / "certificate.json").read_text())


@pytest.fixture
def forger(copy, statement) -> Forger:
    """Has the whole copy, and neither the signing key nor the data."""
    return Forger(copy, statement)
