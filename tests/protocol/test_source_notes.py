"""What the report says about where the data come from."""

from types import SimpleNamespace

import pytest

from scripts.protocol.report import slices_between, source_notes


def volume(source_image: str, slices: str = "", **fields: str):
    own = {"source": "semi-synthetic", "source_image": source_image, **fields}
    return SimpleNamespace(fields=own | ({"source_slices": slices} if slices else {}), patient_id="")


@pytest.mark.parametrize(
    ("training", "test", "expected"),
    [
        ([("a", "0-3"), ("a", "4-7")], [("a", "10-12")], 2),
        ([("a", "10-12")], [("a", "0-3"), ("a", "4-8")], 1),
        ([("a", "0-3")], [("a", "4-5")], 0),
        ([("a", "0-3")], [("a", "3-5")], -1),
        ([("a", "0-3")], [("b", "0-3")], None),
        ([("a", "")], [("a", "5-6")], None),
    ],
)
def test_slices_between_training_and_test(training, test, expected):
    assert slices_between([volume(*v) for v in training], [volume(*v) for v in test]) == expected


@pytest.mark.parametrize(
    ("test_slices", "said"),
    [("8-9", "1 subject is both in training and in test, in disjoint slices with at least 2 others between them"),
     ("5-9", "1 subject is both in training and in test, IN THE SAME SLICES"),
     ("", "in slices that the files do not state")],
)  # fmt: skip
def test_shared_subjects_are_named(test_slices, said):
    training, test = [volume("a.nii", "0-5")], [volume("a.nii", test_slices)]
    data = SimpleNamespace(sections={"training": training, "validation": [], "test": test}, test=test)
    first, second = source_notes(data)
    assert first.startswith("Semi-synthetic data")
    assert first.endswith("(2 of 2 volumes)")
    assert said in second


def test_other_subjects_in_test_need_no_note():
    test = [volume("b.nii", "0-5")]
    data = SimpleNamespace(sections={"training": [volume("a.nii", "0-5")], "test": test}, test=test)
    assert len(source_notes(data)) == 1
