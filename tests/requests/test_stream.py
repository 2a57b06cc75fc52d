"""Three requests through the real verb: an erased scan is never read again."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.data.slices import SliceDataset
from scripts.requests import RetainSubsetSampler
from scripts.requests.erasures import erasures
from scripts.requests.ledger import Ledger
from scripts.run.errors import own_error
from tests.verbs import CONFIGS, SMALL, run

REQUESTS = {
    "march": {"patient_id": "P000"},
    "june": {"anatomy": "knee"},
    "autumn": {"patient_id": ["P001", "P002"]},
}


pytestmark = pytest.mark.usefixtures("contained")


def unlearn(datalist: str, name: str, weights: str, overlay: str = "methods/fine_tune.yaml", **overrides) -> str:
    request = {"request_id": name, "reason": "withdrew", "forget": [REQUESTS[name]]}
    settings = {"unlearn_epochs": 1, "evaluate_models": False, "output_dir": name, **SMALL, **overrides}
    run("unlearn", overlay, datalist=datalist, forget_request=request, weights=weights, **settings)
    return f"{name}/unlearned.pt"


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Patient of every slice that any data set gives out or the sampler of the retain subset names."""
    found: list[str] = []
    real, sampled = SliceDataset.__getitem__, RetainSubsetSampler.__iter__

    def indices(self):
        order = list(sampled(self))
        found.extend(self.dataset.slices[index][0].patient_id for index in order)
        return iter(order)

    monkeypatch.setattr(RetainSubsetSampler, "__iter__", indices)

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
    run("train", datalist=tiny_datalist, train_epochs=1, output_dir="anew",
        forget_request=False, **SMALL)  # fmt: skip
    assert len(set(reads)) == 8  # seven of training, one of validation
    assert not erased & set(reads)

    lines = Ledger("ledger.jsonl")  # of all runs beside each other
    assert [run.name for run in erasures(lines)] == list(REQUESTS)
    assert [line["event"] for line in lines.lines[1:]] == ["trained", *["begun", "erased"] * 3, "trained"]
    record = json.loads(Path("autumn/unlearned.json").read_text())
    assert record["ledger"]["path"] == "../ledger.jsonl"
    assert "left out, erased by request march: brain_000.h5" in Path("autumn/unlearn.log").read_text()

    request = {"request_id": "autumn", "reason": "withdrew", "forget": [REQUESTS["autumn"]]}
    run("audit", datalist=tiny_datalist, forget_request=request, ledger="ledger.jsonl", weights="june/unlearned.pt",
        output_dir="audit", unlearned_weights="autumn/unlearned.pt", oracle_weights=False, relearning_steps=0,
        certificate=False, resurfacing_share=0.2, **{"statistics#samples": 100}, **SMALL)  # fmt: skip
    found = json.loads(Path("audit/audit.json").read_text())["measures"]
    earlier = found["earlier"]["requests"]
    assert {name: entry["scans"] for name, entry in earlier.items()} == {"earlier 1": 1, "earlier 2": 2}
    assert {"BTA", "UA", "earlier"} <= set(found["resurfacing"])
    assert [step["line"] for step in found["erosion"]["steps"]] == [3, 5, 7]
    assert found["erosion"]["total"]["not measured"].startswith("line 3: no evaluation in its record")
    text = Path("audit/audit.md").read_text()
    assert "| earlier 1 | 1 |" in text
    assert "earlier PSNR" in text


def test_a_further_request_on_the_first_original_is_refused(tiny_datalist, trained):
    original = shutil.copy(trained / "original.pt", "original.pt")
    unlearn(tiny_datalist, "march", original)
    before = sorted(Path().rglob("*"))
    with pytest.raises(RuntimeError) as error:
        unlearn(tiny_datalist, "june", original)
    message = str(own_error(error.value))
    assert "original.pt: expected the weights with which " in message
    assert "ledger.jsonl ends" in message
    assert "march/unlearned.pt" in message
    assert sorted(Path().rglob("*")) == before
    unlearn(tiny_datalist, "june", original, enter_in_ledger=False)
    assert len(erasures(Ledger("ledger.jsonl"))) == 1


def test_several_requests_in_one_run(tiny_datalist, trained):
    """Given as a list, as the documentation does; the log says what they cost."""
    asked = [{"request_id": name, "reason": "", "forget": [REQUESTS[name]]} for name in ("march", "june")]
    settings = {"ledger": "both/ledger.jsonl", "oracle_weights": False, "unlearn_epochs": 1, "erosion_limit": 1e-6}
    weights = str(trained / "original.pt")
    run("unlearn", "methods/fine_tune.yaml", datalist=tiny_datalist, forget_request=asked, weights=weights,
        output_dir="both", **settings, **SMALL)  # fmt: skip
    (done,) = erasures(Ledger("both/ledger.jsonl"))
    assert sorted(done.requests.values()) == ["june", "march"]
    log = Path("both/unlearn.log").read_text()
    assert "those who stay, since the original was trained: " in log


def test_the_losses_of_two_requests_add_up_to_the_declared_limit(tiny_datalist, trained):
    """The second loses less than the limit, both together more: the run says so and advises to train anew."""
    weights, lost, settings = str(trained / "original.pt"), {}, {"ledger": "eroded/ledger.jsonl", "learning_rate": 3.0}
    for name in ("march", "june"):
        limit = lost.get("march", 99.0)
        weights = unlearn(tiny_datalist, name, weights, "methods/fine_tune.yaml", evaluate_models=True,
                          oracle_weights=False, erosion_limit=limit, **settings)  # fmt: skip
        results = json.loads(Path(f"{name}/unlearned.json").read_text())["results"]
        before = "original" if name == "march" else "before"  # the original is the first one
        assert ("before" in results) == (name == "june")
        levels = [results[model]["BTA"]["psnr"]["mean"] for model in (before, "unlearned")]
        lost[name] = levels[0] - levels[1]
        assert ("Train anew" in Path(f"{name}/unlearn.log").read_text()) == (name == "june")
    assert 0 < lost["june"] < lost["march"]
    log = Path("june/unlearn.log").read_text()
    assert f"since the original was trained: {-sum(lost.values()):+.2f} dB in 2 requests" in log
    assert f"lost {sum(lost.values()):.2f} dB since the original was trained, more than the declared " in log


def test_of_two_runs_on_one_ledger_at_once_the_second_is_refused(tiny_datalist, trained):
    """Two real processes: the first is halted when it has begun, so that they are at work at the same time."""
    ledger = Path("records/ledger.jsonl")

    def started(name: str, weights: str) -> subprocess.Popen:
        Path(f"{name}.json").write_text(json.dumps({"request_id": name, "reason": "", "forget": [REQUESTS[name]]}))
        given = {"config_file": str(CONFIGS / "unlearn.yaml"), "datalist": tiny_datalist, "weights": weights}
        given |= {"forget_request": f"{name}.json", "output_dir": name, "ledger": str(ledger), "unlearn_epochs": 1}
        given |= {"evaluate_models": False, "prior": trained / "prior.pt", "train_epochs": 2, **SMALL}
        words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
        command = [sys.executable, "-m", "monai.bundle", "run", "unlearn", *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    original = str(trained / "original.pt")
    first = started("march", original)
    while not ledger.is_file() or not any(line["event"] == "begun" for line in Ledger(ledger).lines):
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    second = started("june", original)
    said, _ = second.communicate(timeout=300)
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=300)
    assert second.returncode != 0
    assert "another run works with this ledger: expected one at a time; wait for its end" in said
    assert not Path("june/unlearned.pt").exists()
    assert first.returncode == 0
    assert [line["event"] for line in Ledger(ledger).lines[1:]] == ["begun", "erased"]
    unlearn(tiny_datalist, "june", "march/unlearned.pt", ledger=str(ledger))
    assert [done.name for done in erasures(Ledger(ledger))] == ["march", "june"]
