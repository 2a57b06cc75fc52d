"""Patient and study of a scan out of a file of the site."""

import pydicom
import pytest

from scripts.inference import VolumeWriter
from scripts.inference.volume_writer import Worklist
from tests.inference.test_outputs import PLACED, images, series  # noqa: F401 a fixture

LINES = "measurementID,patientID,patientName,studyInstanceUID,accessionNumber\n17,P9,Doe^J,1.2.3.4,A1\n18,,,1.2.3.5,\n"


def written(folder, worklist, values, **fields):
    """The first image of a series of which the header states these fields."""
    import torch

    writer = VolumeWriter(folder, ["dicom"], worklist=worklist)
    writer.begin(series(PLACED, fields))
    for index, image in enumerate(values):
        writer.add(index, torch.from_numpy(image)[None])
    (place,) = writer.finish("scan")
    return pydicom.dcmread(place / "IM0001.dcm")


def test_a_line_states_patient_and_study(tmp_path, images, caplog):  # noqa: F811
    path = tmp_path / "worklist.csv"
    path.write_text(LINES)
    ds = written(tmp_path / "a", path, images, measurementID="17", patientID="unknown", studyInstanceUID="1.9")
    found = (ds.PatientID, str(ds.PatientName), ds.StudyInstanceUID, ds.AccessionNumber)
    assert found == ("P9", "Doe^J", "1.2.3.4", "A1")
    ds = written(tmp_path / "b", path, images, measurementID="18", patientID="header's", studyInstanceUID="1.9")
    assert (ds.PatientID, ds.StudyInstanceUID) == ("header's", "1.2.3.5")
    assert not caplog.records
    ds = written(tmp_path / "c", path, images, measurementID="19", patientID="header's", studyInstanceUID="1.9")
    assert (ds.PatientID, ds.StudyInstanceUID) == ("header's", "1.9")
    assert f"patient and study are the header's: its measurementID is not in {path}" in caplog.text


def test_a_line_that_is_added_later_counts(tmp_path, images):  # noqa: F811
    path = tmp_path / "worklist.csv"
    path.write_text(LINES)
    worklist = Worklist(path)
    with path.open("a") as file:
        file.write("19,P10,,,\n")
    raw = series(PLACED, {"measurementID": "19"})
    assert worklist.complete(raw).fields["patientID"] == "P10"
    path.write_text("measurementID\n")  # spoilt while a server runs: no image is lost for it
    assert worklist.complete(raw) is raw


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a field of the header and then some of patientName"),
        ("measurementID\n1\n", "found ['measurementID']"),
        ("measurementID,PatientID\n1,2\n", "found PatientID"),
        ("measurementID,patientID\n1,2\n1,3\n", "line 3: expected 2 cells and a measurementID of its own"),
        ("measurementID,patientID\n1\n", "line 2: expected 2 cells"),
        ("measurementID,patientID\n1,2,3\n", "line 2: expected 2 cells"),
    ],
)
def test_what_is_no_worklist_is_refused(tmp_path, text, words):
    path = tmp_path / "worklist.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=".*") as error:
        VolumeWriter(tmp_path, worklist=path)
    assert words in str(error.value)
    assert str(path) in str(error.value)
