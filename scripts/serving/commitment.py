"""Storage commitment: the archive's own word that it keeps images.

Source: DICOM PS3.4, Annex J. The archive is asked by N-ACTION, on the association that stored the images or on another;
its answer, N-EVENT-REPORT, comes on that association or on one that it opens to us, so we listen.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping

from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association

from scripts.serving.outbox import OutageError

PUSH_MODEL, PUSH_MODEL_INSTANCE = UID("1.2.840.10008.1.20.1"), UID("1.2.840.10008.1.20.1.1")
NEVER = {0x0119: "class and instance conflict", 0x0122: "SOP class not supported"}
"""Reasons for which sending the same image again is of no use."""


class Commitment:
    """What is asked of an archive beside storing, and how its answer is received.

    Args:
        port: The port on which we listen for the archive's report while images are sent; the archive has to know it
            and this machine's address under our title.
        host: The address on which we listen.
        wait_s: Longest wait for the report. Without one the images stay in the queue, and the archive is asked again.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", wait_s: float = 60) -> None:
        self.host, self.port, self.wait_s = host, int(port), wait_s
        self._asked: set[str] = set()
        self._reports: dict[str, dict[str, str]] = {}
        self._news = threading.Condition()

    @property
    def handlers(self) -> list[evt.EventHandlerType]:
        """Of an association on which a report may come."""
        return [(evt.EVT_N_EVENT_REPORT, self._report)]

    @contextlib.contextmanager
    def listening(self, title: str) -> Iterator[None]:
        """Listen for reports under our application entity title.

        Raises:
            OutageError: the port is taken.
        """
        entity = AE(ae_title=title)
        entity.add_supported_context(PUSH_MODEL, scu_role=True, scp_role=True)
        try:
            server = entity.start_server((self.host, self.port), block=False, evt_handlers=self.handlers)
        except OSError as error:
            raise OutageError(f"storage commitment: cannot listen on {self.host}:{self.port}: {error}") from error
        assert server is not None  # it is where it does not block
        try:
            yield
        finally:
            server.shutdown()

    def ask(self, association: Association, instances: Mapping[str, str]) -> str:
        """Ask for the commitment of instances (UID -> SOP class), and return the transaction's UID.

        Raises:
            OutageError: the archive does not take the question; its status is named.
        """
        question = Dataset()
        question.TransactionUID = generate_uid(prefix=None)
        question.ReferencedSOPSequence = [_item(uid, sop_class) for uid, sop_class in instances.items()]
        self._asked.add(question.TransactionUID)
        try:
            status, _ = association.send_n_action(question, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
        except (ValueError, RuntimeError) as error:  # no presentation context for it; the association ended
            raise OutageError(f"storage commitment: {error}") from error
        if "Status" not in status or status.Status != 0:
            found = f"0x{status.Status:04X}" if "Status" in status else "no answer"
            raise OutageError(f"storage commitment: N-ACTION: expected status 0x0000, found {found}")
        return str(question.TransactionUID)

    def answer(self, transaction: str, instances: Iterable[str]) -> dict[str, str]:
        """Wait for the report; per instance: "" for committed, or why not for good. Those without a word are left out.

        Raises:
            OutageError: no report came in time.
        """
        with self._news:
            self._news.wait_for(lambda: transaction in self._reports, self.wait_s)
            self._asked.discard(transaction)
            report = self._reports.pop(transaction, None)
        if report is None:
            raise OutageError(f"storage commitment: no report within {self.wait_s:g} s")
        return {uid: report[uid] for uid in instances if uid in report}

    def _report(self, event: evt.Event) -> tuple[int, None]:
        """Take a report; one of a transaction that we did not begin is refused."""
        report = event.event_information
        transaction = str(report.get("TransactionUID", ""))
        found = {str(item.ReferencedSOPInstanceUID): "" for item in report.get("ReferencedSOPSequence", [])}
        for item in report.get("FailedSOPSequence", []):
            found.pop(str(item.ReferencedSOPInstanceUID), None)
            if item.FailureReason in NEVER:
                found[str(item.ReferencedSOPInstanceUID)] = f"not committed: {NEVER[item.FailureReason]}"
        with self._news:
            if transaction not in self._asked:
                return 0x0110, None
            self._reports[transaction] = found
            self._news.notify_all()
        return 0x0000, None


def _item(uid: str, sop_class: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    return item
