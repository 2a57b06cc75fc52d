"""Routers and archives to hand over to: one whose faults are chosen, and Orthanc."""

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest

from scripts.inference.dicom import write_dicom
from scripts.inference.model_identity import ModelIdentity
from scripts.inference.raw_volume import RawVolume
from scripts.serving.router import orthanc_id
from tests.inference.test_outputs import FIELDS, UNPLACED
from tests.verbs import CONFIGS

ORTHANC = shutil.which("Orthanc")
PLUGIN = next(iter(Path("/usr/share/orthanc/plugins").glob("libOrthancDicomWeb.so")), None)
needs_orthanc = pytest.mark.skipif(
    ORTHANC is None or PLUGIN is None, reason="Orthanc is not installed (Debian packages orthanc, orthanc-dicomweb)"
)


def make_series(folder, seed=0, geometry=UNPLACED, images=3, **fields):
    """A series of small images; returns their SOP instance UIDs."""
    pixels = (np.random.default_rng(seed).random((images, 20, 16)) * 3e-4).astype(np.float32)
    raw = RawVolume("scan.h5", (images, 1, 20, 16), (20, 16), geometry, {**FIELDS, **fields}, scan_id="scan")
    write_dicom(folder, pixels, raw, ModelIdentity("Model", "1.0", "ab" * 32))
    return {str(pydicom.dcmread(path).SOPInstanceUID) for path in folder.iterdir()}


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


def until(condition, seconds=60, what=lambda: ""):
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


FAULTS = {  # status line and body of an answer that is no "stored"; the image is not kept
    "bad request": (400, b'{"Message": "Bad file format", "Details": "in a test"}'),
    "unauthorized": (401, b""),
    "conflict": (409, b"{}"),
    "server error": (500, b'{"Message": "Internal error"}'),
    "unavailable": (503, b"<html>try later</html>"),
    "full disk": (507, b'{"Message": "Full storage"}'),
    "login page": (200, b"<html><form>user, password</form></html>"),
    "empty": (200, b""),
    "no content": (204, b""),
    "null": (200, b"null"),
    "empty list": (200, b"[]"),
    "empty object": (200, b"{}"),
    "filtered out": (200, b'{"Status": "FilteredOut", "ID": "OWN"}'),
    "failure": (200, b'{"Status": "Failure", "ID": "OWN"}'),
    "stored without a name": (200, b'{"Status": "Success"}'),
    "stored another": (200, b'{"Status": "Success", "ID": "6229edba-95eb87aa-57cbe944-95d1f52c-019a64f2"}'),
    "redirected": (302, b""),
}
BREAKS = ("cut before it is kept", "cut after it is kept", "half an answer", "silent", "byte by byte", "no HTTP")
"""What is no answer; of the second and third the image is kept, and sent again."""


class FakeRouter:
    """A router in this process that keeps images in memory; it does wrong what it is told to.

    Args:
        fault: of a request, by the number of the image and its dataset: a key of FAULTS, one of BREAKS, or "".
        port: to listen on; 0: a free one.
        keeps: whether the images are kept; otherwise they are counted.
    """

    def __init__(self, fault=lambda number, ds: "", port=0, keeps=True):
        self.fault, self.kept, self.times, self.asked = fault, {}, {}, 0
        router = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(200, b'{"Name": "fake"}')

            def do_POST(self):
                content = self.rfile.read(int(self.headers["Content-Length"]))
                ds = pydicom.dcmread(BytesIO(content))
                fault = router.fault(router.asked, ds)
                router.asked += 1
                if fault in FAULTS:
                    status, body = FAULTS[fault]
                    self.answer(status, body.replace(b"OWN", orthanc_id(BytesIO(content)).encode()))
                elif fault in ("cut before it is kept", "silent", "byte by byte", "no HTTP"):
                    self.misbehave(fault)
                else:
                    uid = str(ds.SOPInstanceUID)
                    status = "AlreadyStored" if uid in router.kept else "Success"
                    if keeps:
                        router.kept[uid] = content
                        router.times[uid] = router.times.get(uid, 0) + 1
                    body = json.dumps({"Status": status, "ID": orthanc_id(BytesIO(content))}).encode()
                    if fault:
                        self.misbehave(fault, body)
                    else:
                        self.answer(200, body)

            def answer(self, status, body, length=None):
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/login")
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

            def misbehave(self, fault, body=b""):
                if fault == "half an answer":
                    self.answer(200, body[: len(body) // 2], len(body))
                elif fault == "no HTTP":
                    self.wfile.write(b"\x00\x01garbage\r\n\r\n")
                elif fault in ("silent", "byte by byte"):
                    with contextlib.suppress(OSError):
                        for byte in b"HTTP/1.0 200 OK\r\nX: " + b"y" * 600:
                            time.sleep(0.1)
                            if fault == "byte by byte":
                                self.wfile.write(bytes([byte]))
                self.close_connection = True

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def datasets(self):
        return [pydicom.dcmread(BytesIO(content)) for content in self.kept.values()]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


class Orthanc:
    """Orthanc in a process of its own.

    Args:
        folder: for its files, which outlive it.
        modalities: the nodes that it knows.
        web, dicom: its ports.
        settings: others of its configuration; the router's are those of ``bundle/configs/router/orthanc.json``.
    """

    def __init__(self, folder, web=None, dicom=None, modalities=None, **settings):
        self.folder, self.web, self.dicom = Path(folder), web or free_port(), dicom or free_port()
        self.folder.mkdir(exist_ok=True)
        shipped = json.loads((CONFIGS / "router" / "orthanc.json").read_text())
        own = {
            "StorageDirectory": str(folder), "IndexDirectory": str(folder), "HttpPort": self.web,
            "DicomPort": self.dicom, "DicomModalities": modalities or {},
        }  # fmt: skip
        self.url = f"http://127.0.0.1:{self.web}"
        (self.folder / "orthanc.json").write_text(json.dumps({**shipped, **own, **settings}))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.kill()

    def start(self, *before):
        """Start it, with other words before its command."""
        with (self.folder / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*before, ORTHANC, str(self.folder / "orthanc.json")], stdout=log, stderr=log
            )
        wait_for(self.web, self.process)
        wait_for(self.dicom, self.process)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def rest(self, path):
        """Answer of its own interface."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as answer:
            return json.loads(answer.read())

    def datasets(self):
        """Its images."""
        found = []
        for name in self.rest("/instances"):
            with urllib.request.urlopen(f"{self.url}/instances/{name}/file", timeout=30) as answer:
                found.append(pydicom.dcmread(BytesIO(answer.read())))
        return found
