"""Three requests through the real verb: an erased scan is never read again."""

import json
from pathlib import Path

import pytest

from scripts.data.slices import SliceDataset
from scripts.errors import own_error
from scripts.requests.erasures import erasures
from scripts.requests.ledger import Ledger
from tests.verbs import SMALL, run

REQUESTS = {
    "march": {"patient_id": "P000"},
    "june": {"anatomy": "knee"},
    "autumn": {"patient_id": ["P001", "P002"]},
}


pytestmark = pytest.mark.usefixtures("contained")


def unlearn(datalist: str, name: str, weights: str, overlay: str | None = None, **overrides) -> str:
    request = {"request_id": name, "reason": "withdrew", "forget": [REQUESTS[name]]}
    settings = {"unlearn_epochs": 1, "evaluate_models": False, "output_dir": name, **SMALL, **overrides}
    run("unlearn", overlay, datalist=datalist, forget_request=request, weights=weights, **settings)
    return f"{name}/unlearned.pt"


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Patient of every slice that any data set gives out, while the run reads it."""
    found: list[str] = []
    real = SliceDataset.__getitem__

    def spied(self, index):
        item = real(self, index)
        found.append(item["patient_id"])
        return item

    monkeypatch.setattr(SliceDataset, "__getitem__", spied)
    return found


def test_an_erased_scan_is_never_read_again(tiny_datalist, reads):
    run("train", datalist=tiny_datalist, train_epochs=1, output_dir="train", **SMALL)
    assert {"P000", "P001", "P010"} <= set(reads)
    weights, erased = "train/original.pt", set()
    patients = {"march": {"P000"}, "june": {"P010", "P011"}, "autumn": {"P001", "P002"}}
    for name, overlay in (("march", "mirror_target"), ("june", "full_fine_tune"), ("autumn", "mirror_target")):
        reads.clear()
        weights = unlearn(tiny_datalist, name, weights, f"methods/{overlay}.yaml", retain_fraction=1.0)
        assert patients[name] <= set(reads) or name == "june"  # full fine-tuning reads no forget scan
        assert not erased & set(reads), name
        assert len(set(reads) - patients[name]) >= 9 - len(erased)  # every retained patient: nothing else is missing
        erased |= patients[name]
    reads.clear()
    run("train", datalist=tiny_datalist, train_epochs=1, output_dir="anew", ledger="march/ledger.jsonl",
        forget_request=False, **SMALL)  # fmt: skip
    assert len(set(reads)) == 8  # seven of training, one of validation
    assert not erased & set(reads)

    lines = Ledger("march/ledger.jsonl")
    assert [run.name for run in erasures(lines)] == list(REQUESTS)
    assert [line["event"] for line in lines.lines[1:]] == ["begun", "erased"] * 3 + ["trained"]
    record = json.loads(Path("autumn/unlearned.json").read_text())
    assert record["ledger"]["path"] == "../march/ledger.jsonl"
    assert "left out, erased by request march: brain_000.h5" in Path("autumn/unlearn.log").read_text()


def test_a_further_request_on_the_first_original_is_refused(tiny_datalist, trained):
    original = str(trained / "original.pt")
    unlearn(tiny_datalist, "march", original)
    before = sorted(Path().rglob("*"))
    with pytest.raises(RuntimeError) as error:
        unlearn(tiny_datalist, "june", original, ledger="march/ledger.jsonl")
    assert "original.pt: expected the weights with which march/ledger.jsonl ends" in str(own_error(error.value))
    assert sorted(Path().rglob("*")) == before
    unlearn(tiny_datalist, "june", original, ledger="march/ledger.jsonl", enter_in_ledger=False)
    assert len(erasures(Ledger("march/ledger.jsonl"))) == 1
