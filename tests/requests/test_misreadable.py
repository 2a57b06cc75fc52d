"""Requests that a reader and a program could understand differently are refused, and what is meant is selected."""

import datetime
import re

import numpy as np
import pytest

from scripts.data.header import make_header
from scripts.data.volumes import Volume, inspect_volume, write_volume
from scripts.requests.forget_request import ForgetRequest
from tests.conftest import CROP, MATRIX, tiny_slices


def volume(name: str, patient: str, **fields: str) -> Volume:
    known = {"kspace": name, "patient_id": patient, "anatomy": "brain", "date": "2024-01-01", "note": "", **fields}
    return Volume(name, name, (1, 1, 32, 32), (32, 32), None, "matrix", 1.0, {k: v for k, v in known.items() if v})


PATIENTS = ("10", "0012", "P017", "P018", "P[1]", "P1", "1", "1.0", "yes", "null", "P1, P2", "twice")
SECTIONS = {
    "training": [*(volume(f"{i}.h5", patient) for i, patient in enumerate(PATIENTS)), volume("again.h5", "twice"),
                 volume("knee.h5", "P080", anatomy="knee", date="2024-02-01")],
    "validation": [volume("v.h5", "P900")],
    "test": [volume("t.h5", "P901", anatomy="hip"), volume("both.h5", "P080", anatomy="spine")],
}  # fmt: skip


def chosen(request: ForgetRequest, sections=SECTIONS) -> list[str]:
    return [v.patient_id for v in request.apply(sections)["training"] if v.forget]


def written(tmp_path, forget: str, suffix: str = ".yaml"):
    path = tmp_path / f"request{suffix}"
    head = "request_id: r-1\nreason: withdrew\nforget:\n" if suffix == ".yaml" else ""
    path.write_text(head + forget, encoding="utf-8")
    return path


NONE = "selects none of 14 training volumes"
REFUSED = [
    # values that name nobody, alone or beside one that names somebody
    ("- patient_id: P81", rf"selector 1 .*'P81' {NONE}; found '0012', .*15 in all.*compared as text"),
    ("- patient_id: [P017, P081]", rf"'P081' {NONE}; .*nearest: .*'P080'"),
    ("- patient_id: P017\n- patient_id: P019", rf"selector 2 .*'P019' {NONE}; .*nearest: .*'P01"),
    ("- patient_id: p017", rf"'p017' {NONE}.*nearest: 'P017'"),
    ("- patient_id: 'P017 '", rf"'P017 ' {NONE}.*nearest: 'P017'"),
    ("- patient_id: 12", rf"'12' {NONE}"),
    ("- patient_id: 012", rf"'012' {NONE}.*'0012'"),
    ("- patient_id: 0xA", rf"'0xA' {NONE}"),
    ("- patient_id: 1_0", rf"'1_0' {NONE}"),
    ("- patient_id: 1.00", rf"'1.00' {NONE}.*'1.0'"),
    ("- patient_id: Yes", rf"'Yes' {NONE}.*'yes'"),
    ("- patient_id: true", rf"'true' {NONE}"),
    ("- patient_id: P017, P018", rf"'P017, P018' {NONE}"),
    ("- patient_id: [P017 P018]", rf"'P017 P018' {NONE}"),
    ("- patient_id: P017\n    P018", rf"'P017 P018' {NONE}"),
    ("- patient_id: |\n    P017\n", rf"'P017.n' {NONE}.*nearest: 'P017'"),
    ("- patient_id: P99*", rf"'P99\*' {NONE}"),
    ("- date: 2024-1-1", rf"'2024-1-1' {NONE}.*nearest: '2024-01-01'"),
    ("- kspace: ./0.h5", rf"'./0.h5' {NONE}.*nearest: '0.h5'"),
    ("- {anatomy: knee, patient_id: P017}", rf"{NONE} that fit the other fields of this selector"),
    ("- {anatomy: [brain, knee], patient_id: P017}", rf"'knee' {NONE} that fit the other fields"),
    # a field that nobody has, or one that is nearly right
    ("- patientid: P017", "no volume has the field 'patientid'; expected one of .*nearest: 'patient_id'"),
    ("- Patient_ID: P017", "no volume has the field 'Patient_ID'.*nearest: 'patient_id'"),
    ("- {patient_id: P017, anatmy: knee}", "no volume has the field 'anatmy'.*nearest: 'anatomy'"),
    # what the format would drop or resolve
    ("- patient_id:", "no value .nothing.: quote it"),
    ("- patient_id: null", "no value .null.: quote it"),
    ("- patient_id: ~", "no value .~.: quote it"),
    ("- patient_id: [P017, ]\n- patient_id: [P018, ~]", "no value"),
    ("- {patient_id: P017, patient_id: P018}", "'patient_id' stands twice"),
    ("- patient_id: P017\nforget:\n- patient_id: P018", "'forget' stands twice"),
    ("- patient_id: !!int '10'", "a tag, tag:yaml.org,2002:int"),
    ("- patient_id: !secret P017", "a tag, !secret"),
    ("- &one {patient_id: P017}\n- {<<: *one}", "anchors and aliases"),
    ("- {<<: {patient_id: P017}}", "a merge key"),
    ("- patient_id: *P1", "anchors and aliases|alias"),
    ("- patient_id: P017\n---\nforget: []", "expected a single document"),
    ("- patient_id: ''", "field 'patient_id': expected a value, found empty text"),
    ("- patient_id: []", "expected a list of values, each once"),
    ("- patient_id: [P017, P017]", "expected a list of values, each once"),
    ("- patient_id: P017\n- patient_id: P017", "expected each selector once"),
    ("- patient_id: [[P017]]", "expected text, found \\['P017'\\]"),
    ("- patient_id: {is: P017}", "expected text, found {'is': 'P017'}"),
    ("- P017", "expected a list of selectors .field: value., found 'P017' as number 1"),
    ("- {}", "expected a list of selectors"),
    ("  patient_id: P017", "expected a list of selectors"),
    # what is selected is not all there is, or all there is
    ("- kspace: again.h5", "other scans of selected patients would stay in 'training'.*11.h5 of twice.*keep_other_sc"),
    ("- anatomy: knee", "patients to be forgotten are also in 'test': P080"),
    ("- patient_id: '*'", "selects all 14 training volumes; none left"),
    ("- anatomy: [brain, knee]", "selects all 14 training volumes; none left"),
]  # fmt: skip


@pytest.mark.parametrize(("forget", "message"), REFUSED)
def test_a_misreadable_file_is_refused_by_name(tmp_path, forget, message):
    path = written(tmp_path, forget)
    with pytest.raises(ValueError, match=f"(?s)^{re.escape(str(path))}: .*{message}"):
        chosen(ForgetRequest.load(path))


JSON_HEAD = '{"request_id": "r-1", "reason": "withdrew", "forget": '


@pytest.mark.parametrize(
    ("forget", "message"),
    [
        ('[{"patient_id": null}]', "field 'patient_id': expected text, found None"),
        ('[{"patient_id": true}]', "expected text, found True .bool.*in quotes"),
        ('[{"patient_id": NaN}]', "NaN: quote it"),
        ('[{"patient_id": "P017", "patient_id": "P018"}]', "'patient_id' stands twice"),
        ('[{"patient_id": 1.00}]', f"'1.00' {NONE}"),
        ('[{"patient_id": 0012}]', "does not parse"),
        ('[{"patient_id": "P017"}], "keep_other_scans": 1', "'keep_other_scans': expected true or false, found '1'"),
        ('[{"patient_id": "P017"}], "keep_other_scan": true', r"unknown \['keep_other_scan'\]"),
    ],
)
def test_a_misreadable_json_file_is_refused_by_name(tmp_path, forget, message):
    path = written(tmp_path, JSON_HEAD + forget + "}", ".json")
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*{message}"):
        chosen(ForgetRequest.load(path))


def inline(value, **more) -> ForgetRequest:
    return ForgetRequest.load({"request_id": "r-1", "reason": "", "forget": [{"patient_id": value}], **more})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "found True .bool., which may have been written in several ways; put it in quotes"),
        (1.0, "found 1.0 .float."),
        (None, "found None .NoneType."),
        (datetime.date(2024, 1, 1), "found datetime.date.2024, 1, 1. .date."),
        (b"P017", "found b'P017' .bytes."),
        (10, "found 10 .int., which may have been written in several ways; put it in quotes"),
        ([10, "P017"], "found 10 .int."),
        ((), "expected a list of values, each once"),
    ],
)
def test_values_of_a_configuration_that_may_have_been_written_otherwise_are_refused(value, message):
    with pytest.raises(ValueError, match=f"^forget request: .*{message}"):
        chosen(inline(value))


@pytest.mark.parametrize("key", ["request_id", "reason"])
@pytest.mark.parametrize("value", [None, 1.5, datetime.date(2024, 1, 1), ["r"]])
def test_identifier_and_reason_are_text(key, value):
    content = {"request_id": "r", "reason": "", "forget": [{"patient_id": "P017"}], key: value}
    with pytest.raises(ValueError, match=f"^forget request: '{key}': expected text, found"):
        ForgetRequest.load(content)


@pytest.mark.parametrize("name", ["", "  ", "r\n2"])
def test_an_identifier_is_one_line(name):
    with pytest.raises(ValueError, match="'request_id': expected one line of text"):
        ForgetRequest.load({"request_id": name, "reason": "", "forget": [{"patient_id": "P017"}]})


@pytest.mark.parametrize(
    ("forget", "expected"),
    [
        ("- patient_id: 0012", ["0012"]),
        ("- patient_id: 10", ["10"]),
        ("- patient_id: 1.0", ["1.0"]),
        ("- patient_id: yes", ["yes"]),
        ("- patient_id: 'null'", ["null"]),
        ("- patient_id: P[1]", ["P[1]"]),  # exact before glob
        ("- patient_id: P[12]", ["P1"]),
        ("- patient_id: P1, P2", ["P1, P2"]),
        ("- patient_id: P01?", ["P017", "P018"]),
        ("- patient_id: [0012, yes]", ["0012", "yes"]),
        ("- {patient_id: P017, date: 2024-01-01}", ["P017"]),
        ("- patient_id: twice", ["twice", "twice"]),
        ("- kspace: again.h5\nkeep_other_scans: true", ["twice"]),
    ],
)
def test_text_is_what_is_written(tmp_path, forget, expected):
    assert chosen(ForgetRequest.load(written(tmp_path, forget))) == expected


def test_numbers_of_a_json_file_are_their_text(tmp_path):
    path = written(tmp_path, JSON_HEAD + '[{"patient_id": 1.0}, {"patient_id": 10}]}', ".json")
    assert chosen(ForgetRequest.load(path)) == ["10", "1.0"]


def test_a_patient_whom_only_the_header_names_is_that_patient(tmp_path):
    files = []
    for seed, patient in enumerate(("P1", "P2", "P1")):
        header = make_header(
            matrix=MATRIX, recon=CROP, spacing=(1.0, 1.0), slice_thickness=5.0, num_coils=2, patientID=patient
        )
        files.append(tmp_path / f"{seed}.h5")
        slices = tiny_slices(np.random.default_rng(seed), 1, 2, True)
        write_volume(files[-1], slices, num_slices=1, attributes={}, header=header)
    volumes = [inspect_volume(path) for path in files]
    assert [v.patient_id for v in volumes] == ["P1", "P2", "P1"]
    assert chosen(inline("P1"), {"training": volumes}) == ["P1", "P1"]
    with pytest.raises(ValueError, match="patients to be forgotten are also in 'test': P1"):
        chosen(inline("P1"), {"training": volumes[:2], "test": volumes[2:]})
    assert inspect_volume(files[0], fields={"patient_id": "X"}).patient_id == "X"
