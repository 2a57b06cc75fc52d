"""Texts that are written in another way are the same text."""

import pytest

from scripts.data.plausibility import refuse_similar_patients
from scripts.run.text import plain, skeleton


@pytest.mark.parametrize(
    "text",
    [
        "MÜLLER, Anna",
        "mu\u0308ller,\u00a0 anna",
        "Müller,\n\tANNA",
        "MÜL\u200bLER, Anna",
        "\uff2d\uff35\u0308LLER, Anna",
    ],
    ids=["case", "decomposed", "broken line", "nobody sees", "full width"],
)
def test_one_form_of_a_name(text):
    assert plain(text) == "müller, anna"


@pytest.mark.parametrize(
    "letter",
    ["\u0420", "\u0440", "\u03a1", "\u13e2", "\uff30", "\U0001d5c9"],
    ids=["Cyrillic", "Cyrillic, small", "Greek", "Cherokee", "full width", "mathematical"],
)
def test_a_patient_under_letters_that_look_alike(letter):
    other = f"{letter}017"
    assert skeleton(other) == skeleton("P 017") == "p017"
    with pytest.raises(ValueError, match="expected one spelling of each patient"):
        refuse_similar_patients({"P017": "a.h5", other: "b.h5"}, "datalist.json")


def test_letters_of_ascii_stay_apart():
    honest = ("P01", "P10", "A1", "Al", "O1", "01")
    assert len({skeleton(text) for text in honest}) == len(honest)
    refuse_similar_patients(dict.fromkeys(honest, "a.h5"), "datalist.json")
