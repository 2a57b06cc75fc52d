"""The page about one request: whole in itself, true to the record, and free of what names a person."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from scripts.evaluation.report import audit_part, gate_chart, write_report
from scripts.evaluation.results import VolumeResult, write_results

DIGEST = "ab" * 32
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")
GATES = [
    {"name": "retained as good", "at_least": -1.0, "value": 0.2, "interval": [0.0, 0.4], "verdict": "pass"},
    {"name": "not known", "at_most": 0.5, "value": 3.0, "interval": [2.0, 40.0], "verdict": "fail"},
    {"name": "no rise", "at_most": 0.5, "value": 0.5, "interval": None, "verdict": "undecided"},
    {"name": "never measured", "at_most": 1.0, "value": None, "interval": None, "verdict": "not measured"},
]


def record(**changes):
    facts = {
        "verb": "unlearn",
        "forget_request": {"request_id": "2026-017", "reason": "<b>consent</b>", "forget": [{"patient_id": "Smith"}]},
        "scans": {
            "forgotten": {"scans": 3, "slices": 9, "patients": 1, "anatomies": ["knee"]},
            "retained": {"scans": 20, "slices": 60, "patients": 20, "anatomies": ["brain"]},
        },
        "data": {"retain": {"slices": 6, "volumes": [{}, {}]}},
        "opened": {"scans": [{}, {}], "weights": [{}]},
        "forgetting": "exact",
        "not_exact_because": [],
        "prior": {"path": "prior.pt", "sha256": "cd" * 32, "shown": "its training opened no scan"},
        "method": "restart",
        "erased_before": {},
        "cost": {"backward_slices": 108, "seconds": 60.0},
        "training_passes": 1080,
        "started": "2026-12-01T10:00:00+0000",
        "device": "cpu",
        "weights_in": {"sha256": "ef" * 32},
        "weights_out": {"sha256": DIGEST},
        "datalist": {"sha256": "01" * 32},
        "environment": {"code_sha256": "23" * 32},
        "results": {},
    }
    return {**facts, **changes}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A run's folder with figures of five patients, a gain of exactly half a dB over the original."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(5):
        before = float(rng.uniform(25, 30))
        for model, psnr in {"zero-filled": before - 6, "original": before, "unlearned": before + 0.5}.items():
            rows.append(VolumeResult(model, "BTA", f"scan {index}", f"P{index}", "brain", 3, psnr, 0.9, 0.01))
    write_results(rows, tmp_path / "metrics.csv")
    summary = {m: {"BTA": {"psnr": {"mean": v}}} for m, v in (("original", 27.0), ("unlearned", 27.5))}
    (tmp_path / "panels.png").write_bytes(PNG)
    (tmp_path / "unlearned.json").write_text(json.dumps(record(results=summary)))
    return tmp_path


def page_of(folder: Path) -> str:
    write_report(folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)).split())


def test_an_exact_run(folder):
    page = page_of(folder)
    text = text_of(page)
    assert "Forgot 3 knee scans exactly (restarted from a clean prior, 2 of 20 retained scans, 10 % of the" in text
    assert "Brain: 27.5 dB, original 27.0 dB." in text
    assert (
        "differs from the original network by +0.50 dB (90 % interval +0.50 to +0.50 dB; 5 scans of 5 patients)" in text
    )
    assert "is no memory of them" in text
    assert "run replay" in text
    assert DIGEST in page
    assert "No audit has been made" in text
    assert "Signature" in text


def test_it_is_one_file_without_code_and_names_nobody(folder):
    page = page_of(folder)
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', page) == []
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in page
    assert "<script" not in page
    assert "<b>consent" not in page
    assert "&lt;b&gt;consent" in page
    assert "Smith" not in page
    assert "scan 0" not in page
    assert "patient_id: 1 value" in page


def test_an_approximate_run_says_why_and_names_the_audit(folder):
    why = ["knee_1, a forgotten scan, was opened"]
    facts = record(forgetting="approximate", not_exact_because=why, method="fine_tune", prior=None, results=None)
    (folder / "unlearned.json").write_text(json.dumps(facts))
    text = text_of(page_of(folder))
    assert "1 forgotten scan was opened" in text
    assert "knee_1" not in text
    assert "run audit" in text
    assert "run replay" not in text
    assert "is no memory of them" not in text
    assert "The quality was not measured" in text


def test_an_audit_is_added(folder):
    (folder / "audit").mkdir()
    verdict = {"verdict": "undecided", "meaning": "no gate decides"}
    (folder / "audit" / "audit.json").write_text(json.dumps({"verdict": verdict, "gates": GATES}))
    page = page_of(folder)
    assert "Audit: undecided" in text_of(page)
    assert "Not measured: never measured." in text_of(page)
    assert "data:image/svg+xml" in page


def test_the_chart_puts_what_keeps_its_limit_to_the_right():
    part = audit_part({"verdict": {"verdict": "x", "meaning": "y"}, "gates": GATES})
    assert part["unmeasured"] == ["never measured"]
    svg = base64.b64decode(part["chart"].partition(",")[2]).decode()
    assert svg.count("<svg") == 1
    assert gate_chart(GATES[:3]) == part["chart"]  # equal input, equal bytes
    reversed_limits = [{**GATES[0], "at_least": 1.0, "verdict": "fail"}, *GATES[1:3]]
    assert gate_chart(reversed_limits) != part["chart"]


def test_without_a_record_there_is_no_report(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_it_prints(folder):
    page_of(folder)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    command = ["chromium", *options, f"--print-to-pdf={folder / 'report.pdf'}", (folder / "report.html").as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    content = (folder / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 5
