"""A DICOM router on this machine, by its REST interface (Orthanc)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pydicom
from pydicom.multival import MultiValue

STORED = ("Success", "AlreadyStored")
LONGEST_ANSWER = 1 << 24
LONGEST_WAIT_S = 60


class RefusedError(Exception):
    """The router answered, and did not say that it stored the image."""


class AwayError(OSError):
    """No whole answer from the router."""


@dataclass
class Failure:
    """What was not taken: why, and when it is tried again (monotonic clock); the wait doubles to at most a minute.

    Attributes:
        stored: Images of it that were stored; where they become more, the wait begins anew.
    """

    reason: str = ""
    wait_s: float = 0
    next_try: float = 0
    stored: set[str] = field(default_factory=set)

    def again(self, reason: str, retry_s: float, stored: Collection[str] = ()) -> Failure:
        """The next failure of the same."""
        more = len(stored) > len(self.stored)
        wait = min(2 * self.wait_s, max(LONGEST_WAIT_S, retry_s)) if self.wait_s and not more else retry_s
        return Failure(reason, wait, time.monotonic() + wait, set(stored))


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
        with contextlib.suppress(AwayError, RefusedError):
            return isinstance(self.ask("GET", "/system"), dict)
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
                with connection.getresponse() as answer:  # it holds the socket until it is closed
                    content = answer.read(LONGEST_ANSWER)
            finally:
                late.cancel()
        except (OSError, http.client.HTTPException) as error:
            found = str(error) or type(error).__name__
            raise AwayError(f"expected an answer within {self.timeout_s:g} s, found none: {found}") from error
        finally:
            connection.close()
        text = content.decode("utf-8", "replace")
        said = " ".join(text[:100].split())
        if not 200 <= answer.status < 300:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                reasons = json.loads(text)
                said = "; ".join(str(reasons[key]) for key in ("Message", "Details") if reasons.get(key)) or said
            raise RefusedError(f"HTTP {answer.status} {answer.reason}: {said}")
        try:
            return json.loads(text)
        except ValueError as error:
            raise RefusedError(f"expected JSON, found {said or 'nothing'!r}") from error


def orthanc_id(image: Path) -> str:
    """The name that Orthanc gives to an image: SHA-1 of the identifiers of its four levels."""
    ds = pydicom.dcmread(image, stop_before_pixels=True)
    levels = []
    for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        value = ds.get(name, "")  # as Orthanc reads it: without the spaces at its end, values of a list by a backslash
        levels.append("\\".join(map(str, value if isinstance(value, MultiValue) else [value])).rstrip())
    digest = hashlib.sha1("|".join(levels).encode(), usedforsecurity=False).hexdigest()
    return "-".join(digest[start : start + 8] for start in range(0, 40, 8))


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)
