"""DICOM nodes to send to: one whose faults are chosen, DCMTK's storescp, and Orthanc."""

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage, SecondaryCaptureImageStorage
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

ORTHANC = shutil.which("Orthanc")
PLUGIN = next(iter(Path("/usr/share/orthanc/plugins").glob("libOrthancDicomWeb.so")), None)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen | None = None) -> None:
    """Wait until something listens."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process is None or process.poll() is None, "the node ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on {port}")


class Node:
    """A storage node in this process.

    Args:
        port: to listen on.
        status: of each answer, by the number of the image.
        aet: its title; callers must name it where ``strict``.
    """

    def __init__(self, port: int, status=lambda number: 0x0000, strict: bool = False, after=None) -> None:
        self.received: list[tuple[str, str]] = []
        self.status, self.after = status, after
        self.entity = AE(ae_title="NODE")
        self.entity.require_called_aet = strict
        for storage in (MRImageStorage, SecondaryCaptureImageStorage):
            self.entity.add_supported_context(storage)
        self.server = self.entity.start_server(("127.0.0.1", port), block=False, evt_handlers=self.handlers())

    def handlers(self):
        return [(evt.EVT_C_STORE, self._store)]

    def _store(self, event):
        status = self.status(len(self.received))
        ds = event.dataset
        self.received.append((str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID)))
        if self.after is not None:
            self.after(len(self.received))
        return status

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.server.shutdown()


class Committing(Node):
    """A storage node that commits what it stored.

    Args:
        port: to listen on.
        reports_to: port of a new association for its reports; None: they come on the association that asked.
        reason: failure reason by the number of the question and of the image; 0: committed, None: no word about it.
        silent: how many questions are taken and never answered.
    """

    def __init__(self, port, reports_to=None, reason=lambda question, number: 0, silent=0, **settings):
        self.reports_to, self.reason, self.silent = reports_to, reason, silent
        self.questions: list[list[str]] = []
        super().__init__(port, **settings)

    def handlers(self):
        self.entity.add_supported_context(StorageCommitmentPushModel)
        return [*super().handlers(), (evt.EVT_N_ACTION, self._asked)]

    def _asked(self, event):
        number, question = len(self.questions), event.action_information
        self.questions.append([str(item.ReferencedSOPInstanceUID) for item in question.ReferencedSOPSequence])
        if number >= self.silent:
            threading.Thread(target=self._report, args=(event.assoc, question, number)).start()
        return 0x0000, None

    def _report(self, association, question, number) -> None:
        report = Dataset()
        report.TransactionUID = question.TransactionUID
        report.ReferencedSOPSequence, report.FailedSOPSequence = [], []
        for index, item in enumerate(question.ReferencedSOPSequence):
            reason = self.reason(number, index)
            if reason:
                item.FailureReason = reason
            if reason is not None:
                (report.FailedSOPSequence if reason else report.ReferencedSOPSequence).append(item)
        self.answers = self.send(report, association)

    def send(self, report, association=None):
        """Send a report and return our status of it."""
        kind = 2 if report.FailedSOPSequence else 1
        if self.reports_to is not None:
            entity = AE(ae_title="NODE")
            entity.add_requested_context(StorageCommitmentPushModel)
            role = build_role(StorageCommitmentPushModel, scp_role=True)
            association = entity.associate("127.0.0.1", self.reports_to, ext_neg=[role])
        status, _ = association.send_n_event_report(
            report, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        if self.reports_to is not None:
            association.release()
        return status.Status


@contextlib.contextmanager
def storescp(folder: Path, port: int, title: str = "STORESCP"):
    """DCMTK's storage node, which writes into a folder."""
    process = subprocess.Popen(["storescp", "-aet", title, "-od", str(folder), str(port)])
    try:
        wait_for(port, process)
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def orthanc(folder: Path, destination: int, reports: int):
    """Orthanc with DICOMweb; yields its DICOM port and the address of its web server.

    Args:
        folder: for its files.
        destination: port of the node DEST, to which it may be told to move images.
        reports: port of the node MRIRECON, which hears of storage commitment.
    """
    nodes = {"dest": ["DEST", "127.0.0.1", destination], "mrirecon": ["MRIRECON", "127.0.0.1", reports]}
    dicom, web = free_port(), free_port()
    configuration = {
        "Name": "test", "StorageDirectory": str(folder), "IndexDirectory": str(folder),
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomServerEnabled": True,
        "DicomAet": "ORTHANC", "DicomPort": dicom, "HttpPort": web, "DicomCheckCalledAet": False,
        "DicomAlwaysAllowMove": True, "DicomModalities": nodes,
        "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([ORTHANC, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        wait_for(web, process)
        wait_for(dicom, process)
        yield dicom, f"http://127.0.0.1:{web}"
    finally:
        process.terminate()
        process.wait()


def rest(url: str):
    """Answer of Orthanc's own interface."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.loads(answer.read())
