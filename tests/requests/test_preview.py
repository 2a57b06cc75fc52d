"""What a request would do, said before anything runs; and the method that each forgotten scan gets."""

import json
from pathlib import Path

import monai.bundle
import pytest

from scripts.requests import Cohorts, describe_request
from tests.conftest import write_tiny_volume

ENTRIES = [
    ("b1", "P1", "brain", "T2"), ("b2", "P1", "brain", "T2"), ("b3", "P2", "brain", "T2"), ("b4", "P3", "brain", "T1"),
    ("k1", "P4", "knee", "PD"), ("k2", "P5", "knee", "PD"),
]  # fmt: skip


@pytest.fixture(scope="module")
def datalist(tmp_path_factory) -> str:
    root = tmp_path_factory.mktemp("mixed")
    for seed, (name, *_) in enumerate(ENTRIES):
        write_tiny_volume(root / f"{name}.h5", seed, slices=1)
    training = [
        {"kspace": f"{name}.h5", "patient_id": patient, "anatomy": anatomy, "acquisition": contrast}
        for name, patient, anatomy, contrast in ENTRIES
    ]
    (root / "datalist.json").write_text(json.dumps({"training": training}))
    return str(root / "datalist.json")


def request(*selectors: dict, **more) -> dict:
    return {"request_id": "r-1", "reason": "withdrew", "forget": list(selectors), **more}


@pytest.mark.parametrize(
    ("selectors", "parts"),
    [
        ([{"anatomy": "knee"}], {"kind": ["k1", "k2"]}),
        ([{"patient_id": "P1"}], {"member": ["b1", "b2"]}),
        ([{"patient_id": "P4"}], {"member": ["k1"]}),
        ([{"acquisition": "T1"}], {"contrast": ["b4"]}),  # it goes as a whole, though other brains stay
        ([{"anatomy": "knee"}, {"patient_id": "P1"}], {"kind": ["k1", "k2"], "member": ["b1", "b2"]}),
        ([{"anatomy": "knee"}, {"patient_id": ["P1", "P3"]}],
         {"kind": ["k1", "k2"], "contrast": ["b4"], "member": ["b1", "b2"]}),
    ],
)  # fmt: skip
def test_each_scan_is_one_of_many_or_of_a_contrast_or_anatomy_that_goes(datalist, selectors, parts):
    found = Cohorts(datalist, request(*selectors)).by_part()
    assert {part: [Path(volume.name).stem for volume in volumes] for part, volumes in found.items()} == parts


def test_the_preview_names_scans_patients_methods_and_what_stays(datalist):
    asked = request({"anatomy": "kn*"}, {"kspace": "b1.h5"}, keep_other_scans=True)
    text = describe_request(Cohorts(datalist, asked))
    for line in (
        "# Request 'r-1': withdrew",
        "- selector 1: anatomy = 'kn*', as a pattern: 'knee'",
        "- selector 2: kspace = 'b1.h5'",
        "To be forgotten: 3 scans of 3 patients, 3 slices.",
        "| b1.h5 | P1 | brain T2 | one of a kind that stays |",
        "| k2.h5 | P5 | knee PD | all of its anatomy |",
        "Other scans of these patients that stay: b2.h5.",
        "Of the kinds of these scans stay: 2 scans of brain T2.",
        "Retain set: 3 scans of 3 patients, 3 slices.",
    ):
        assert line in text.splitlines(), text


def test_without_a_request_there_is_nothing_to_preview(datalist):
    with pytest.raises(ValueError, match="preview: expected a forget request, found none"):
        describe_request(Cohorts(datalist))


@pytest.mark.filterwarnings("ignore:parsing config_file")
def test_the_verb_prints_and_writes_nothing(datalist, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = Path(__file__).parents[2] / "bundle" / "configs" / "preview.yaml"
    monai.bundle.run("preview", config_file=str(config), datalist=datalist, forget_request=request({"anatomy": "knee"}))
    assert "| k1.h5 | P4 | knee PD | all of its anatomy |" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
