"""The verbs `serve` and `send` by their config files: what they refuse, and files sent to an archive."""

import socket

import monai.bundle
import pydicom
import pytest

from scripts.networks import save_weights
from scripts.run.errors import told
from tests.serving.client import varnet
from tests.serving.nodes import Node, free_port
from tests.serving.test_archive import make_series
from tests.serving.test_server import NETWORK
from tests.verbs import CONFIGS

pytestmark = [
    pytest.mark.usefixtures("contained"),
    pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning"),
]
ARCHIVE = {"_target_": "scripts.serving.CStoreArchive", "host": "127.0.0.1", "port": 1}
REFUSED = [  # verb, what is set, what the error says; more in tests/hostile
    ("send", {"source": "nowhere"}, "nowhere: 'source': expected DICOM files (*.dcm), found none"),
    ("send", {"archive#port": 99999}, "expected a whole number from 1 to 65535, found 99999"),
    ("serve", {"pixels": "float16"}, "'pixels': expected one of float32, int16, found 'float16'"),
    ("serve", {"limits": {"delivery_s": 0}}, "'delivery_s': expected a number above 0, found 0"),
    ("serve", {"limits#max_scans": -1}, "'max_scans': expected a number above 0, found -1"),
    ("serve", {"archive": ARCHIVE}, "'formats': expected dicom among them, to send it, found ['nifti']"),
    ("serve", {"archive": {**ARCHIVE, "called": "A" * 17}}, "expected an AE title, at most 16 characters"),
]


def run(verb, **settings):
    monai.bundle.run(verb, config_file=str(CONFIGS / f"{verb}.json"), logging_file=False, **settings)


@pytest.mark.parametrize(("verb", "settings", "words"), REFUSED)
def test_what_cannot_be_is_refused_and_nothing_is_written(verb, settings, words, tmp_path):
    save_weights(varnet(), tmp_path / "weights.pt")
    usual = {"weights": str(tmp_path / "weights.pt"), **{f"network_def#{name}": v for name, v in NETWORK.items()}}
    outputs = {"serve": {"output_dir": str(tmp_path / "out"), **usual}, "send": {"outbox_dir": str(tmp_path / "out")}}
    with pytest.raises((ValueError, OSError, RuntimeError)) as error:
        run(verb, **{**outputs[verb], **settings})
    assert words in " ".join(told(error.value).split())
    assert not (tmp_path / "out").exists()


def test_a_port_that_is_taken_is_named(tmp_path):
    """Everything was built by then: an archive with storage commitment, too."""
    save_weights(varnet(), tmp_path / "weights.pt")
    settings = {"weights": str(tmp_path / "weights.pt"), **{f"network_def#{name}": v for name, v in NETWORK.items()}}
    archive = {**ARCHIVE, "commitment": {"_target_": "scripts.serving.Commitment", "port": 2}}
    settings |= {"output_dir": str(tmp_path / "out"), "formats": ["nifti", "dicom"], "archive": archive}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises((OSError, RuntimeError)) as error:
            run("serve", port=port, **settings)
    assert f"('127.0.0.1', {port}): address already in use" in " ".join(told(error.value).split())


def test_files_are_sent_and_an_outage_leaves_them_in_the_queue(tmp_path):
    expected = make_series(tmp_path / "out" / "scan_dicom")
    port = free_port()
    settings = {"source": str(tmp_path / "out"), "outbox_dir": str(tmp_path / "queue"), "archive#port": port}
    with pytest.raises((OSError, RuntimeError)) as error:
        run("send", patience_s=0.01, **settings)
    expected_words = f"3 images wait in {tmp_path / 'queue'}: ORTHANC at 127.0.0.1:{port}: cannot be reached"
    assert expected_words in " ".join(told(error.value).split())
    with Node(port) as node:
        run("send", **settings)
    assert {uid for uid, _ in node.received} == expected
    assert not list((tmp_path / "queue").rglob("*.dcm"))
    kept = {str(pydicom.dcmread(path).SOPInstanceUID) for path in (tmp_path / "out").rglob("*.dcm")}
    assert kept == expected  # what was sent stays where it was written
