"""A DICOM router on this machine, by its REST interface (Orthanc)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pydicom

STORED = ("Success", "AlreadyStored")
LONGEST_ANSWER = 1 << 24


class RefusedError(Exception):
    """The router answered, and did not say that it stored the image."""


class AwayError(OSError):
    """No whole answer from the router."""


class Router:
    """Takes images, and answers for each whether it has stored it.

    Args:
        url: Of its REST interface.
        user, password_file: For basic authentication; the file holds the password alone.
        timeout_s: Longest time of a request, from its first byte to the answer's last.

    Raises:
        ValueError: no address of a web server.
        OSError: the password's file cannot be read.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8042",
        user: str | None = None,
        password_file: str | Path | None = None,
        timeout_s: float = 30,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"'router': 'url': expected http://HOST:PORT or https://HOST:PORT, found {url!r}")
        if (user is None) != (password_file is None):
            raise ValueError("'router': expected 'user' and 'password_file' together, found one of them")
        self.url, self.timeout_s = url.rstrip("/"), timeout_s
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._place, self._root = (parts.hostname, parts.port), parts.path.rstrip("/")
        self._headers = {"Content-Type": "application/octet-stream", "Connection": "close"}
        if password_file is not None:
            secret = f"{user}:{Path(password_file).read_text(encoding='utf-8').strip()}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"

    def __str__(self) -> str:
        return self.url

    def store(self, image: Path) -> None:
        """Store a DICOM file.

        The word "stored" alone is not taken: the answer has to name the image by the identity that Orthanc derives from
        patient, study, series and instance.

        Raises:
            RefusedError: any other answer.
            AwayError: no whole answer in time.
            OSError: the file cannot be read.
        """
        content = image.read_bytes()
        answer = self.ask("POST", "/instances", content)
        status, found = (answer.get(key) if isinstance(answer, dict) else None for key in ("Status", "ID"))
        if status not in STORED:
            raise RefusedError(f"expected the status {' or '.join(STORED)}, found {status!r}")
        if found != (expected := orthanc_id(image)):
            raise RefusedError(f"expected {status} of {expected}, found it of {found!r}")

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            return isinstance(self.ask("GET", "/system"), dict)
        except (AwayError, RefusedError):
            return False

    def ask(self, method: str, path: str, body: bytes | dict | None = None) -> Any:
        """The JSON content of an answer; a body that is a mapping is sent as JSON.

        Raises:
            RefusedError: an HTTP status other than 2xx, or no JSON.
            AwayError: no whole answer in time.
        """
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        connection = self._kind(*self._place, timeout=self.timeout_s)
        try:
            connection.connect()
            # the timeout of a socket begins anew with each byte that comes; this one does not
            late = threading.Timer(self.timeout_s, _cut, (connection.sock,))
            late.start()
            try:
                connection.request(method, self._root + path, body, self._headers)
                answer = connection.getresponse()
                content = answer.read(LONGEST_ANSWER)
            finally:
                late.cancel()
        except (OSError, http.client.HTTPException) as error:
            found = str(error) or type(error).__name__
            raise AwayError(f"expected an answer within {self.timeout_s:g} s, found none: {found}") from error
        finally:
            connection.close()
        text = content.decode("utf-8", "replace")
        if not 200 <= answer.status < 300:
            raise RefusedError(f"HTTP {answer.status} {answer.reason}: {_message(text)}")
        try:
            return json.loads(text)
        except ValueError as error:
            raise RefusedError(f"expected JSON, found {' '.join(text[:100].split()) or 'nothing'!r}") from error


def orthanc_id(image: Path) -> str:
    """The name that Orthanc gives to an image: SHA-1 of the identifiers of its four levels."""
    ds = pydicom.dcmread(image, stop_before_pixels=True)
    levels = (ds.get(name, "") for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
    digest = hashlib.sha1("|".join(_text(level) for level in levels).encode(), usedforsecurity=False).hexdigest()
    return "-".join(digest[start : start + 8] for start in range(0, 40, 8))


def _text(value: Any) -> str:
    """As Orthanc reads it: without the spaces at its end, values of a list by a backslash."""
    values = value if isinstance(value, pydicom.multival.MultiValue) else [value]
    return "\\".join(map(str, values)).rstrip()


def _message(text: str) -> str:
    """What Orthanc says of an error, or the beginning of any other page."""
    try:
        content = json.loads(text)
        return "; ".join(str(content[key]) for key in ("Message", "Details") if content.get(key))
    except (ValueError, AttributeError, KeyError, TypeError):
        return " ".join(text[:100].split())


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)
