"""Archives: DICOM C-STORE by ``pynetdicom``, STOW-RS by ``dicomweb-client``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import requests
from dicomweb_client import DICOMwebClient
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage, SecondaryCaptureImageStorage
from pynetdicom import AE
from pynetdicom.association import Association

from scripts.serving.commitment import PUSH_MODEL, Commitment
from scripts.serving.outbox import OutageError

BUSY = range(0xA700, 0xA800)
"""C-STORE status: refused, out of resources."""
WARNINGS = range(0xB000, 0xC000)
"""C-STORE status: stored, with a warning."""


class CStoreArchive:
    """DICOM node that takes images by C-STORE.

    Args:
        host, port: Of the node.
        called: Its application entity title.
        calling: Ours.
        timeout_s: Of the network and of each answer.
        commitment: Ask for storage commitment too: an image leaves the queue when the archive has committed it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        called: str = "ANY-SCP",
        calling: str = "MRIRECON",
        timeout_s: float = 30,
        commitment: Commitment | None = None,
    ) -> None:
        self.host, self.port, self.called = host, int(port), called
        self.entity = AE(ae_title=calling)
        self.entity.acse_timeout = self.entity.dimse_timeout = self.entity.network_timeout = timeout_s
        self.entity.connection_timeout = timeout_s
        for storage in (MRImageStorage, SecondaryCaptureImageStorage):
            self.entity.add_requested_context(storage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        self.commitment = commitment
        self._stored: set[str] = set()  # not committed yet, so that it need not be sent again
        if commitment is not None:
            self.entity.add_requested_context(PUSH_MODEL)

    def __str__(self) -> str:
        return f"{self.called} at {self.host}:{self.port}"

    def store(self, paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
        """Store files over one association; see :class:`scripts.serving.outbox.Archive`."""
        if self.commitment is None:
            with self._associated() as association:
                for path in paths:
                    yield path, self._store(association, path)
        else:
            with self.commitment.listening(self.entity.ae_title), self._associated() as association:
                yield from self._commit(self.commitment, association, paths)

    @contextlib.contextmanager
    def _associated(self) -> Iterator[Association]:
        handlers = self.commitment.handlers if self.commitment is not None else []
        association = self.entity.associate(self.host, self.port, ae_title=self.called, evt_handlers=handlers)
        if not association.is_established:
            reason = "refused the association" if association.is_rejected else "cannot be reached"
            raise OutageError(f"{self}: {reason}")
        try:
            yield association
        finally:
            if association.is_established:
                association.release()

    def _commit(
        self, commitment: Commitment, association: Association, paths: Iterable[Path]
    ) -> Iterator[tuple[Path, str]]:
        """Store what is not stored yet, ask for the commitment of all, and answer for what has it."""
        places, classes = {}, {}
        for path in paths:
            ds = pydicom.dcmread(path, stop_before_pixels=True)
            uid = str(ds.SOPInstanceUID)
            if uid not in self._stored and (refusal := self._store(association, path)):
                yield path, refusal
                continue
            self._stored.add(uid)
            places[uid], classes[uid] = path, str(ds.SOPClassUID)
        if not places:
            return
        answers = commitment.answer(commitment.ask(association, classes), places)
        self._stored -= places.keys()  # what has no commitment now is sent again
        for uid, refusal in answers.items():
            yield places[uid], refusal and f"{self}: {refusal}"
        if missing := len(places) - len(answers):
            raise OutageError(f"{self}: {missing} of {len(places)} images are not committed")

    def _store(self, association: Association, path: Path) -> str:
        if not association.is_established:
            raise OutageError(f"{self}: the association ended")
        try:
            answer = association.send_c_store(pydicom.dcmread(path))
        except ValueError as error:  # no presentation context for it
            return str(error)
        except RuntimeError as error:
            raise OutageError(f"{self}: {error}") from error
        if "Status" not in answer:
            raise OutageError(f"{self}: no answer")
        if answer.Status in BUSY:
            raise OutageError(f"{self}: out of resources")
        if answer.Status == 0 or answer.Status in WARNINGS:
            return ""
        return f"{self}: C-STORE status 0x{answer.Status:04X} {answer.get('ErrorComment', '')}".strip()


class StowArchive:
    """DICOMweb server that takes images by STOW-RS.

    Args:
        url: Of the service, e.g. ``https://archive/dicom-web``.
        token_file: Text file with a bearer token.
        user, password_file: For basic authentication instead.
        timeout_s: Of each answer.
    """

    def __init__(
        self,
        url: str,
        token_file: str | Path | None = None,
        user: str | None = None,
        password_file: str | Path | None = None,
        timeout_s: float = 60,
    ) -> None:
        session = _Session(timeout_s)
        if token_file is not None:
            session.headers["Authorization"] = f"Bearer {_secret(token_file)}"
        elif user is not None and password_file is not None:
            session.auth = (user, _secret(password_file))
        self.url, self.client = url, DICOMwebClient(url, session=session)
        self.client.set_http_retry_params(retry=False)  # the queue tries again, and says so

    def __str__(self) -> str:
        return self.url

    def store(self, paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
        """Store files one request each; see :class:`scripts.serving.outbox.Archive`."""
        for path in paths:
            try:
                answer = self.client.store_instances([pydicom.dcmread(path)])
            except requests.HTTPError as error:
                status = error.response.status_code if error.response is not None else 0
                if status in (400, 409, 415):  # this image, whenever it is sent
                    yield path, f"{self}: {error}"
                    continue
                raise OutageError(f"{self}: {error}") from error
            except (requests.RequestException, OSError) as error:
                raise OutageError(f"{self}: {error}") from error
            failed = answer.get("FailedSOPSequence")
            yield path, f"{self}: failure reason 0x{failed[0].FailureReason:04X}" if failed else ""


class _Session(requests.Session):
    """A session whose requests have a timeout."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self.timeout_s = timeout_s

    def request(self, *arguments: Any, **options: Any) -> requests.Response:
        options.setdefault("timeout", self.timeout_s)
        return super().request(*arguments, **options)


def _secret(path: str | Path) -> str:
    return Path(path).read_text(encoding="utf-8").strip()
