"""Images on their way to an archive: nothing is lost, nothing is kept twice."""

import os
import shutil
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset

from scripts.inference.dicom import rescale_slope, write_dicom
from scripts.inference.model_identity import ModelIdentity
from scripts.inference.raw_volume import RawVolume
from scripts.serving import Commitment, CStoreArchive, Delivery, Outbox, StowArchive, outbox, send
from scripts.serving.outbox import OutageError
from tests.inference.raw_files import write_ismrmrd
from tests.inference.test_outputs import FIELDS, PLACED, UNPLACED
from tests.serving.client import ROOT, read_file, send_scan, serving, values
from tests.serving.nodes import ORTHANC, PLUGIN, Committing, Node, free_port, orthanc, rest, storescp
from tests.serving.test_server import file_inference, make_kspace

# pynetdicom leaves a socket that could not connect to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning")
needs_dcmtk = pytest.mark.skipif(
    shutil.which("storescp") is None, reason="DCMTK is not installed (Debian package dcmtk)"
)
needs_orthanc = pytest.mark.skipif(
    ORTHANC is None or PLUGIN is None, reason="Orthanc is not installed (Debian packages orthanc, orthanc-dicomweb)"
)


def make_series(folder, seed=0, geometry=UNPLACED):
    """A series of three images; returns their SOP instance UIDs."""
    images = (np.random.default_rng(seed).random((3, 20, 16)) * 3e-4).astype(np.float32)
    raw = RawVolume("scan.h5", (3, 1, 20, 16), (20, 16), geometry, FIELDS, scan_id="scan")
    write_dicom(folder, images, raw, ModelIdentity("Model", "1.0", "ab" * 32))
    return {str(pydicom.dcmread(path).SOPInstanceUID) for path in folder.iterdir()}


def cstore(port, **settings):
    return CStoreArchive("127.0.0.1", port, timeout_s=5, **settings)


def test_a_series_is_sent_and_leaves_the_queue(tmp_path):
    expected = make_series(tmp_path / "a") | make_series(tmp_path / "b", 1, PLACED)
    port = free_port()
    queue = Outbox(tmp_path / "queue", cstore(port))
    with Node(port) as node:
        for name in ("a", "b", "a"):  # the same series again changes nothing
            queue.put(tmp_path / name)
        assert len(queue.waiting()) == 6
        assert queue.send() == 6
    assert {uid for uid, _ in node.received} == expected
    assert len(node.received) == 6
    assert queue.waiting() == []
    assert list((tmp_path / "queue").iterdir()) == []


def test_an_outage_loses_nothing(tmp_path):
    expected = make_series(tmp_path / "a")
    port = free_port()
    queue = Outbox(tmp_path / "queue", cstore(port))
    queue.put(tmp_path / "a")
    with pytest.raises(OutageError, match=r"ANY-SCP at 127.0.0.1:\d+: cannot be reached"):
        queue.send()
    assert len(Outbox(tmp_path / "queue", cstore(port)).waiting()) == 3  # also after a restart
    with Node(port) as node:
        queue.send()
    assert {uid for uid, _ in node.received} == expected


def test_the_thread_sends_when_the_archive_comes_back(tmp_path):
    expected = make_series(tmp_path / "a")
    port = free_port()
    queue = Outbox(tmp_path / "queue", cstore(port), retry_s=0.05)
    queue.start()
    try:
        queue.put(tmp_path / "a")
        time.sleep(0.2)
        with Node(port) as node:
            deadline = time.monotonic() + 60
            while queue.waiting() and time.monotonic() < deadline:
                time.sleep(0.05)
    finally:
        queue.stop()
    assert {uid for uid, _ in node.received} == expected


def test_a_refused_association_is_an_outage(tmp_path):
    make_series(tmp_path / "a")
    port = free_port()
    queue = Outbox(tmp_path / "queue", cstore(port, called="SOMEONE"))
    queue.put(tmp_path / "a")
    with Node(port, strict=True) as node, pytest.raises(OutageError, match="refused the association"):
        queue.send()
    assert not node.received
    assert len(queue.waiting()) == 3


def test_an_archive_that_is_full_is_an_outage(tmp_path):
    make_series(tmp_path / "a")
    port = free_port()
    queue = Outbox(tmp_path / "queue", cstore(port))
    queue.put(tmp_path / "a")
    with (
        Node(port, status=lambda number: 0xA700 if number else 0),
        pytest.raises(OutageError, match="out of resources"),
    ):
        queue.send()
    assert len(queue.waiting()) == 2  # one was confirmed


def test_what_the_archive_will_never_take_is_put_aside_with_the_reason(tmp_path):
    make_series(tmp_path / "a")
    port = free_port()
    queue = Outbox(tmp_path / "queue", cstore(port))
    queue.put(tmp_path / "a")
    with Node(port, status=lambda number: 0xA900 if number == 1 else 0xB000):
        assert queue.send() == 2
    assert queue.waiting() == []
    aside = sorted((tmp_path / "queue" / "refused").rglob("IM*"))
    assert [path.name for path in aside] == ["IM0002.dcm", "IM0002.dcm.txt"]
    assert "C-STORE status 0xA900" in aside[1].read_text()


KILLED = """
import os, signal, sys
from scripts.serving import CStoreArchive, Outbox
class Killed(CStoreArchive):
    def store(self, paths):
        for number, answer in enumerate(super().store(paths)):
            if number == 1:
                os.kill(os.getpid(), signal.SIGKILL)  # the archive has it, the queue does not know
            yield answer
Outbox(sys.argv[1], Killed("127.0.0.1", int(sys.argv[2]))).send()
"""


def test_a_kill_in_the_middle_loses_nothing_and_makes_no_second_uid(tmp_path):
    expected = make_series(tmp_path / "a")
    port = free_port()
    queue = Outbox(tmp_path / "queue", cstore(port))
    queue.put(tmp_path / "a")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    with Node(port) as node:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path / "queue"), str(port)], env=environment, check=False
        )
        assert done.returncode == -signal.SIGKILL
        assert len(node.received) == 2
        assert len(queue.waiting()) == 2
        assert queue.send() == 2
    assert {uid for uid, _ in node.received} == expected
    assert len({series for _, series in node.received}) == 1


def committing(port, listening, wait_s=60, **settings):
    return cstore(port, commitment=Commitment(listening, wait_s=wait_s), **settings)


@pytest.mark.parametrize("same", [True, False], ids=["same association", "new association"])
def test_an_image_leaves_the_queue_when_the_archive_has_committed_it(tmp_path, same):
    expected = make_series(tmp_path / "a")
    port, listening = free_port(), free_port()
    queue = Outbox(tmp_path / "queue", committing(port, listening))
    queue.put(tmp_path / "a")
    with Committing(port, None if same else listening) as node:
        assert queue.send() == 3
    assert {uid for uid, _ in node.received} == set(node.questions[0]) == expected
    assert len(node.received) == 3
    assert queue.waiting() == []


def test_without_a_report_the_images_wait_and_only_the_question_is_repeated(tmp_path):
    make_series(tmp_path / "a")
    port, listening = free_port(), free_port()
    queue = Outbox(tmp_path / "queue", committing(port, listening, wait_s=0.2))
    queue.put(tmp_path / "a")
    with Committing(port, listening, silent=1) as node:
        with pytest.raises(OutageError, match=r"no report within 0\.2 s"):
            queue.send()
        assert len(queue.waiting()) == 3
        queue.archive.commitment.wait_s = 60
        assert queue.send() == 3
    assert len(node.received) == 3
    assert len(node.questions) == 2


def test_what_is_not_committed_is_sent_again_or_put_aside(tmp_path):
    make_series(tmp_path / "a")
    port, listening = free_port(), free_port()
    queue = Outbox(tmp_path / "queue", committing(port, listening))
    queue.put(tmp_path / "a")
    reasons = {(0, 0): 0x0112, (0, 1): 0x0122, (0, 2): None}  # lost there; never; forgotten in the report
    with Committing(port, listening, reason=lambda *where: reasons.get(where, 0)) as node:
        with pytest.raises(OutageError, match="2 of 3 images are not committed"):
            queue.send()
        assert [path.name for path in queue.waiting()] == ["IM0001.dcm", "IM0003.dcm"]
        assert queue.send() == 2
    assert len(node.received) == 5
    reason = next((tmp_path / "queue" / "refused").rglob("*.txt"))
    assert (reason.name, "SOP class not supported" in reason.read_text()) == ("IM0002.dcm.txt", True)


def test_an_archive_without_storage_commitment_keeps_the_queue(tmp_path):
    make_series(tmp_path / "a")
    port = free_port()
    queue = Outbox(tmp_path / "queue", committing(port, free_port()))
    queue.put(tmp_path / "a")
    with Node(port), pytest.raises(OutageError, match="storage commitment: .*presentation context"):
        queue.send()
    assert len(queue.waiting()) == 3


def test_a_report_that_nobody_asked_for_is_refused(tmp_path):
    port, listening = free_port(), free_port()
    commitment = Commitment(listening)
    forged = Dataset()
    forged.TransactionUID, forged.ReferencedSOPSequence, forged.FailedSOPSequence = "1.2.3", [], []
    with Committing(port, listening) as node, commitment.listening("MRIRECON"):
        assert node.send(forged) == 0x0110
        with pytest.raises(OutageError, match=f"cannot listen on 127.0.0.1:{listening}"), commitment.listening("B"):
            pass


def test_a_full_disk_leaves_nothing_half_in_the_queue(tmp_path, monkeypatch):
    make_series(tmp_path / "a")
    queue = Outbox(tmp_path / "queue", cstore(1))
    copy = outbox._copy

    def full(source, target):
        if source.name == "IM0002.dcm":
            raise OSError(28, "No space left on device")
        copy(source, target)

    monkeypatch.setattr(outbox, "_copy", full)
    with pytest.raises(OSError, match="the disk is full"):
        queue.put(tmp_path / "a")
    assert list((tmp_path / "queue").iterdir()) == []
    assert queue.waiting() == []


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="expected DICOM files"):
        Outbox(tmp_path / "queue", cstore(1)).put(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="'source': expected DICOM files"):
        send(tmp_path / "empty", Outbox(tmp_path / "queue", cstore(1)))


def test_sending_files_waits_for_the_archive_only_so_long(tmp_path):
    make_series(tmp_path / "out" / "scan_dicom")
    queue = Outbox(tmp_path / "queue", cstore(free_port()), retry_s=0.01)
    with pytest.raises(OutageError, match="3 images wait in .*queue"):
        send(tmp_path / "out", queue, patience_s=0.05)
    assert len(queue.waiting()) == 3


def test_a_stow_server_that_is_down_is_an_outage(tmp_path):
    make_series(tmp_path / "a")
    (tmp_path / "token").write_text("secret\n")
    archive = StowArchive(f"http://127.0.0.1:{free_port()}/dicom-web", token_file=tmp_path / "token")
    assert archive.client._session.headers["Authorization"] == "Bearer secret"
    queue = Outbox(tmp_path / "queue", archive)
    queue.put(tmp_path / "a")
    with pytest.raises(OutageError, match="dicom-web"):
        queue.send()
    assert len(queue.waiting()) == 3


def test_a_queue_needs_dicom(tmp_path):
    from scripts.inference import VolumeWriter

    with pytest.raises(ValueError, match="'formats': expected dicom among them"):
        Delivery(VolumeWriter(tmp_path, ["nifti"]), cstore(1))


@needs_dcmtk
def test_storescp_stores_what_was_written(tmp_path):
    make_series(tmp_path / "a", geometry=PLACED)
    (tmp_path / "stored").mkdir()
    port = free_port()
    queue = Outbox(tmp_path / "queue", cstore(port))
    queue.put(tmp_path / "a")
    with storescp(tmp_path / "stored", port):
        assert queue.send() == 3
    stored = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, (tmp_path / "stored").iterdir())}
    for path in (tmp_path / "a").iterdir():
        written = pydicom.dcmread(path)
        assert stored[written.SOPInstanceUID] == written


@needs_orthanc
@needs_dcmtk
def test_k_space_in_by_mrd_and_dicom_out_of_orthanc(tmp_path):
    """The whole path: MRD client, server, queue, C-STORE, archive, WADO-RS and C-MOVE, and again by STOW-RS."""
    write_ismrmrd(tmp_path / "scan.h5", make_kspace())
    expected = file_inference(tmp_path / "scan.h5", tmp_path / "files")["scan.nii.gz"]
    slope = rescale_slope(float(expected.max()))
    for name in ("orthanc", "moved"):
        (tmp_path / name).mkdir()
    destination, reports = free_port(), free_port()
    with orthanc(tmp_path / "orthanc", destination, reports) as (port, web):
        settings = {"network": "varnet", "output_dir": str(tmp_path / "served"), "formats": ["nifti", "dicom"]}
        with serving(**settings, archive=committing(port, reports, called="ORTHANC")) as server:
            images, _ = send_scan(server, *read_file(tmp_path / "scan.h5"))
            deadline = time.monotonic() + 120
            while list((tmp_path / "served" / "outbox").rglob("*.dcm")) and time.monotonic() < deadline:
                time.sleep(0.1)
        assert not list((tmp_path / "served" / "outbox").rglob("*.dcm"))  # stored and committed
        assert len(rest(f"{web}/instances")) == 3
        assert len(images) == 3
        volume = next((tmp_path / "served").glob("*.nii.gz"))
        np.testing.assert_array_equal(nib.load(volume).get_fdata(dtype=np.float32).transpose(2, 1, 0), expected)

        client = DICOMwebClient(f"{web}/dicom-web")
        study = client.search_for_studies()[0]["0020000D"]["Value"][0]
        assert study == "1.2.826.0.1.9"  # the header's
        found = sorted(client.retrieve_study(study), key=lambda ds: ds.InstanceNumber)
        for image, ds in zip(expected, found, strict=True):
            assert float(ds.RescaleSlope) == slope  # to the last level of the stated quantisation
            np.testing.assert_array_equal(ds.pixel_array, np.rint(image.astype(np.float64) / slope))
        for image in images:
            np.testing.assert_array_equal(values(image), expected[image.getHead().slice])

        with storescp(tmp_path / "moved", destination, "DEST"):
            command = ["movescu", "-aec", "ORTHANC", "-aem", "DEST", "-k", "QueryRetrieveLevel=STUDY"]
            command += ["-k", f"StudyInstanceUID={study}", "127.0.0.1", str(port)]
            subprocess.run(command, check=True, capture_output=True)
        moved = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, (tmp_path / "moved").iterdir())}
        assert len(moved) == 3
        for ds in found:
            assert moved[ds.SOPInstanceUID].PixelData == ds.PixelData

        # the same scan again: other files, other way, the archive keeps it once
        with serving(**settings) as server:
            send_scan(server, *read_file(tmp_path / "scan.h5"))
        sent = send(tmp_path / "served", Outbox(tmp_path / "queue", StowArchive(f"{web}/dicom-web")))
        assert sent == 3  # both writings of the scan are one series
        assert len(rest(f"{web}/instances")) == 3
        assert len(rest(f"{web}/series")) == 1
