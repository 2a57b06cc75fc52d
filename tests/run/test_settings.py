"""Settings as they were typed: what Fire and MONAI make of a text is not what it says."""

import multiprocessing
import sys
from pathlib import Path

import fire.parser
import monai.bundle
import pytest

from scripts.run import config
from scripts.run.check import read_settings
from scripts.run.config import quoted, typed_settings, unquoted

MONAI = str(Path(monai.bundle.__file__).with_name("__main__.py"))


def read(verb, text, key="output_dir"):
    """The value that a verb works with, of a text that Fire has read."""
    found = fire.parser.DefaultParseValue(text)
    return read_settings(verb, {key: found}, {}, {key: text}).get(key, found)


@pytest.mark.parametrize(
    "text",
    ["20240131", "out#2", "1e5", "007", "smith,john", "a,b#c", "0x10", "(x)", "1_000", "it's", "out 2", "True story"],
)
def test_a_path_is_the_text_as_typed(text):
    assert read("train", text) == text
    assert read("inference", text, "dataset_dir") == text


def test_lists_mappings_and_words_keep_their_meaning():
    assert read("inference", "['a,b.h5','c#1.h5']", "dataset_dir") == ["a,b.h5", "c#1.h5"]
    assert read("inference", "[a, b]", "dataset_dir") == ["a", "b"]
    assert read("inference", "'20240131'", "dataset_dir") == "20240131"
    assert read("inference", "nifti,dicom", "formats") == ("nifti", "dicom")
    assert read("evaluate", "{'G': 'a#1.pt'}", "weights") == {"G": "a#1.pt"}
    assert read("unlearn", "none", "oracle_weights") is None
    assert read("train", "5", "seed") == 5
    assert read("ship", "Smith, John", "data_source") == "Smith, John"
    assert read("ship", "1.0", "version") == "1.0"


@pytest.mark.parametrize(("verb", "key"), [("train", "seed"), ("inference", "precision"), ("train", "network#chans")])
def test_a_text_that_fire_would_cut_is_refused_elsewhere(verb, key):
    with pytest.raises(ValueError, match=f"'{key}': expected .*found '4#2'"):
        read_settings(verb, {}, {}, {key: "4#2"})


IMAGE = {"image": "head.nii.gz"}


@pytest.mark.parametrize(
    ("verb", "settings", "words"),
    [
        (
            "simulate",
            {"images": []},
            "'images': expected a list of at least 1, each a mapping of image .*, found \\[\\]",
        ),
        ("simulate", {"images": [{**IMAGE, "slice_axis": 3}]}, "slice_axis .a whole number from 0 to 2.*found .*: 3"),
        ("simulate", {"images": [{**IMAGE, "slice_axis": "z"}]}, "'images': .*head.nii.gz.*'z'"),
        ("simulate", {"images": [{**IMAGE, "split": "tset"}]}, "split .one of training, validation, test.*'tset'"),
        ("simulate", {"images": [{**IMAGE, "slice_axes": 1}]}, "'images': .*found .*'slice_axes': 1"),
        ("simulate", {"images": [{"image": None}]}, "'images': .*found .*None"),
        ("simulate", {"gap": -1, "slices_per_volume": 0}, "'gap': .* from 0, found -1; 'slices_per_volume': .* from 1"),
        ("simulate", {"splits": {"train": 1}}, "'splits': expected a mapping of training .*, found {'train': 1}"),
        ("simulate", {"splits": {"test": -1}}, "'splits': .*a number from 0.*, found {'test': -1}"),
        ("evaluate", {"sections": ["tset"]}, "'sections': .*one of training, validation, test, none twice.*'tset'"),
        ("inference", {"dataset_dir": []}, "'dataset_dir': expected .* a list of at least 1, .*, found \\[\\]"),
        ("serve", {"formats": ["png"]}, "'formats': expected one of nifti, dicom or a list .*, found .'png'."),
        ("serve", {"protocols": {"a": {"remove_oversampling": 1}}}, "'protocols': .*true or false.*found .*: 1"),
        (
            "unlearn",
            {"retain_fraction": 1.01},
            "'retain_fraction': expected a number above 0 and at most 1, found 1.01",
        ),
        ("train", {"training_share": 0}, "'training_share': expected a number above 0 and at most 1, found 0"),
        ("train", {"precision": "half"}, "'precision': expected one of fp32, bf16, fp16, found 'half'"),
        ("train", {"forget_request": True}, "'forget_request': expected a file or a mapping .*, found True"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(verb, settings, words):
    with pytest.raises(ValueError, match=words):
        read_settings(verb, settings, {})


def test_optional_fields_may_be_null():
    assert read_settings("simulate", {"images": [{**IMAGE, "split": None, "patient_id": 12}]}, {}) == {}


def test_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    config = {"output_dir": "~/out", "dataset_dir": ["~/a.h5", "b.h5"], "weights": "~nobody-at-all/w.pt"}
    assert read_settings("inference", config, {}) == {
        "output_dir": "/home/someone/out",
        "dataset_dir": ["/home/someone/a.h5", "b.h5"],
    }
    found = read_settings("evaluate", {"weights": {"G": "~/a.pt", "none": None}}, {})
    assert found == {"weights": {"G": "/home/someone/a.pt", "none": None}}
    images = read_settings("simulate", {"images": [{"image": "~/a.nii", "volume": 1}]}, {})
    assert images == {"images": [{"image": "/home/someone/a.nii", "volume": 1}]}


@pytest.mark.parametrize("value", ["a#b", "it's@home#1%", ["a#1", "b"], {"G": "a#1"}, "plain", 5, None])
def test_monai_keeps_what_is_quoted(value):
    parser = monai.bundle.ConfigParser({"value": None, "also": "@value"})
    parser["value"] = quoted(value)
    parser.parse(True)
    assert parser.get_parsed_content("also") == value
    assert unquoted(quoted(value)) == value


def test_the_command_line_is_read_where_it_is_the_bundles(monkeypatch):
    words = [
        "run",
        "train",
        "--config_file",
        "train.yaml",
        "--output-dir=a#b",
        "--seed",
        "3",
        "--oracle",
        "--resume",
        "-x",
        "-y",
    ]
    monkeypatch.setattr(config, "running_workflows", list)
    monkeypatch.setattr(sys, "argv", [MONAI, *words])
    assert typed_settings() == {"config_file": "train.yaml", "output_dir": "a#b", "seed": "3"}
    with monkeypatch.context() as worker:
        worker.setattr(multiprocessing, "parent_process", lambda: "a study")
        assert typed_settings() == {}  # it has its parent's command line
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pytest", *words])
    assert typed_settings() == {}
