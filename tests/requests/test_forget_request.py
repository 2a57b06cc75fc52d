"""Forget requests: what they select, and what they refuse."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.data.volumes import Volume
from scripts.requests.forget_request import ForgetRequest

REQUEST = {"request_id": "r-1", "reason": "consent withdrawn", "forget": [{"anatomy": "knee"}]}


def volume(name: str, **fields: str) -> Volume:
    return Volume(name, name, (1, 1, 32, 32), (32, 32), None, "matrix", 1.0, {"kspace": name, **fields})


VOLUMES = {
    "training": [
        volume("site_a/1.h5", patient_id="P1", anatomy="brain", systemModel="A"),
        volume("site_a/2.h5", patient_id="P2", anatomy="knee", systemModel="A"),
        volume("site_b/3.h5", patient_id="P3", anatomy="brain", systemModel="B"),
    ],
    "validation": [volume("v.h5", patient_id="P8", anatomy="brain", systemModel="A")],
    "test": [volume("t.h5", patient_id="P9", anatomy="knee", systemModel="A")],
}


def selected(*selectors: dict) -> list[str]:
    marked = ForgetRequest("r", "", selectors).apply(VOLUMES)
    return [v.name for v in marked["training"] if v.forget]


def test_selectors():
    assert selected({"anatomy": "knee"}) == ["site_a/2.h5"]
    assert selected({"kspace": "site_a/*.h5"}) == ["site_a/1.h5", "site_a/2.h5"]
    assert selected({"kspace": "site_a/*", "anatomy": "brain"}) == ["site_a/1.h5"]
    assert selected({"patient_id": "P1"}, {"patient_id": "P3"}) == ["site_a/1.h5", "site_b/3.h5"]
    assert selected({"patient_id": ["P1", "P3"]}) == ["site_a/1.h5", "site_b/3.h5"]
    assert selected({"systemModel": "B"}) == ["site_b/3.h5"]


def test_every_section_is_marked_and_the_rest_left_alone():
    marked = ForgetRequest.load(REQUEST).apply(VOLUMES)
    assert [v.forget for v in marked["test"]] == [True]
    assert [v.forget for v in marked["validation"]] == [False]
    assert [replace(v, forget=False) for v in marked["training"]] == VOLUMES["training"]


@given(st.permutations(VOLUMES["training"]))
def test_order_of_the_datalist_does_not_matter(training):
    marked = ForgetRequest.load(REQUEST).apply({"training": training})
    assert {v.name for v in marked["training"] if v.forget} == {"site_a/2.h5"}


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ({"patient_id": "P77"}, "request 'r': .*'P77' selects none of 3 training volumes; found 'P1', .*as text"),
        ({"patient_id": "P?"}, "selects all 3 training volumes; none left"),
        ({"anatmy": "knee"}, "no volume has the field 'anatmy'; expected one of anatomy, kspace"),
    ],
)
def test_refusals(selector, message):
    with pytest.raises(ValueError, match=message):
        selected(selector)


@pytest.mark.parametrize("section", ["validation", "test"])
def test_a_patient_who_is_also_tested_is_refused(section):
    volumes = {**VOLUMES, section: [volume("x.h5", patient_id="P2", anatomy="knee", systemModel="A")]}
    with pytest.raises(ValueError, match=f"patients to be forgotten are also in '{section}': P2"):
        ForgetRequest.load(REQUEST).apply(volumes)


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_files(tmp_path, suffix):
    path = tmp_path / f"request{suffix}"
    path.write_text(json.dumps(REQUEST))
    assert ForgetRequest.load(path) == ForgetRequest.load(REQUEST)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("forget: [", "expected YAML or JSON"),
        ("just text", "expected a mapping with request_id, reason, forget, found str"),
        ("{request_id: r, forget: [{a: b}]}", r"missing \['reason'\], unknown \[\]"),
        ("{request_id: r, reason: x, forget: [{a: b}], who: me}", r"unknown \['who'\]"),
        ("{request_id: r, reason: x, forget: []}", "'forget': expected a list of selectors"),
        ("{request_id: r, reason: x, forget: knee}", "'forget': expected a list of selectors .* found 'knee'"),
        ("{request_id: r, reason: x, forget: [{}]}", "'forget': expected a list of selectors"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "request.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"request.yaml: .*{message}"):
        ForgetRequest.load(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such forget request"):
        ForgetRequest.load(tmp_path / "nowhere.yaml")
