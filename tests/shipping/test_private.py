"""Names that would leave the house in another form than they were written."""

import json
import zipfile
from pathlib import Path

import h5py
import pytest

from scripts.data import identity
from scripts.data.datalist import load_datalist
from scripts.shipping.private import find_private, identifiers_in


def found(folder, texts, identifiers=(), public=""):
    return find_private(folder, set(texts), public, set(identifiers))


@pytest.mark.parametrize(
    "content",
    [
        "Scans of MÜLLER".encode(),
        "Scans of Mu\u0308ller".encode(),
        "Scans of MÜLLER".encode("utf-16-le"),
        "Scans of MÜLLER".encode("utf-16-be"),
        "Scans of MÜLLER".encode("latin-1"),
        json.dumps("Scans of MÜLLER").encode(),
        b"<p>Scans of M&Uuml;LLER, M&#220;LLER</p>",
        "M\u200bÜLLER".encode(),
    ],
    ids=["case", "decomposed", "UTF-16", "UTF-16, big", "Latin", "JSON", "HTML", "nobody sees"],
)
def test_a_name_in_any_form(tmp_path, content):
    (tmp_path / "metadata.json").write_bytes(content)
    assert found(tmp_path, ["müller"]) == ["metadata.json: holds 'müller'"]
    assert found(tmp_path, [], ["müller"]) == ["metadata.json: holds 'müller'"]


def test_a_phrase_with_two_spaces_or_over_two_lines(tmp_path):
    for text in ("anna  of ward  seven", "Anna of\n   ward seven"):
        (tmp_path / "card.md").write_text(text)
        assert found(tmp_path, ["anna of ward seven"])


def test_within_a_zip_file_and_in_a_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("archive/extra/note.txt", "PAT-0815")
    assert found(tmp_path, [], ["pat-0815"]) == ["model.pt: archive/extra/note.txt: holds 'pat-0815'"]
    (tmp_path / "PAT-0816.txt").touch()
    assert found(tmp_path, [], ["pat-0816"]) == ["PAT-0816.txt: holds 'pat-0816'"]


def test_identifiers_are_words_and_no_part_of_a_number(tmp_path):
    (tmp_path / "card.md").write_text("meiersdorf 0.201401 and 201401, brain")
    assert found(tmp_path, [], ["meier", "brain"], public="a brain") == []
    assert found(tmp_path, [], ["201401"]) == ["card.md: holds '201401'"]
    (tmp_path / "card.md").write_text("0.201401")
    assert found(tmp_path, [], ["201401"]) == []


def test_every_patient_of_the_datalist_is_searched_for(tiny_datalist, tmp_path, caplog, monkeypatch):
    record = {"configuration": {}, "weights_out": {"path": "w.pt"}, "datalist": {"path": tiny_datalist}}
    (tmp_path / "w.json").write_text(json.dumps(record))
    whole = h5py.Dataset.__getitem__

    def header(dataset, place):
        assert dataset.name != "/kspace", "only texts are needed"
        return whole(dataset, place)

    with monkeypatch.context() as patched:
        patched.setattr(h5py.Dataset, "__getitem__", header)
        patched.setattr(identity, "_passed", set())  # whatever another test has compared
        names = identifiers_in(tmp_path / "w.json")
        with pytest.raises(AssertionError, match="only texts"):
            load_datalist(tiny_datalist)
    listed = [entry for part in json.loads(Path(tiny_datalist).read_text()).values() for entry in part]
    assert all(entry["kspace"].lower() in names for entry in listed)
    (tmp_path / "w.json").write_text(json.dumps({**record, "datalist": {"path": "gone.json"}}))
    assert identifiers_in(tmp_path / "w.json") == set()
    assert "were not searched for" in caplog.text
