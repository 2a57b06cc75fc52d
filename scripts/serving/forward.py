"""From the router to the archive: stored by C-STORE, committed by the archive, then removed from the router.

python -m scripts.serving.forward --archive ARCHIVE [--router http://127.0.0.1:8042]

``ARCHIVE`` is the archive's name among the router's ``DicomModalities``. An image leaves the router when the archive
has committed it (DICOM PS3.4, Annex J), and not before. A series that the archive does not take stays, is named and is
tried again while others pass it.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from pathlib import Path

from scripts.serving.operation import set_up_logs
from scripts.serving.router import AwayError, Failure, RefusedError, Router

POLL_S = 0.2
logger = logging.getLogger(__name__)


class Forward:
    """Sends what lies in the router to an archive.

    Args:
        router: The router; its timeout is that of sending one series.
        archive: The archive's name in the router's configuration.
        commitment_s: Longest wait for the archive's word on a series.
        retry_s: Wait after a failure; it doubles for the same series, to at most a minute.
    """

    def __init__(self, router: Router, archive: str, commitment_s: float = 60, retry_s: float = 5) -> None:
        self.router, self.archive, self.commitment_s, self.retry_s = router, archive, commitment_s, retry_s
        self.failures: dict[str, Failure] = {}

    def try_all(self, stop: threading.Event) -> None:
        """Send every series whose time has come.

        Raises:
            AwayError, RefusedError: the router does not say what it holds.
        """
        series = self.router.ask("GET", "/series")
        self.failures = {name: failure for name, failure in self.failures.items() if name in series}
        for name in series:
            failure = self.failures.get(name, Failure())
            if stop.is_set() or time.monotonic() < failure.next_try:
                continue
            try:
                logger.info("%s: %d images committed by %s", name, self._send(name, stop), self.archive)
                self.failures.pop(name, None)
            except (AwayError, RefusedError) as error:
                self.failures[name] = failure.again(str(error), self.retry_s)
                if failure.reason != str(error):
                    logger.error("series %s: not in %s: %s", name, self.archive, error)

    def _send(self, series: str, stop: threading.Event) -> int:
        """Store a series, wait for the commitment, and remove what was committed; return how many images those are."""
        order = {"Resources": [series], "Synchronous": True, "StorageCommitment": True}
        job = self.router.ask("POST", f"/modalities/{self.archive}/store", order)
        if job.get("FailedInstancesCount") or not job.get("StorageCommitmentTransactionUID"):
            raise RefusedError(f"expected all images to be stored, found {job.get('FailedInstancesCount')} that failed")
        place, deadline = f"/storage-commitment/{job['StorageCommitmentTransactionUID']}", time.monotonic()
        while (report := self.router.ask("GET", place))["Status"] == "Pending":
            if time.monotonic() > deadline + self.commitment_s or stop.is_set():
                raise RefusedError(f"expected storage commitment within {self.commitment_s:g} s, found none")
            time.sleep(POLL_S)
        if report["Status"] != "Success":
            raise RefusedError(f"not committed: {report.get('Failures')}")
        self.router.ask("POST", f"{place}/remove", {})
        return len(report["Success"])


def main(
    archive: str,
    router: str = "http://127.0.0.1:8042",
    user: str | None = None,
    password_file: str | Path | None = None,
    log_format: str = "text",
) -> None:
    """Forward until SIGTERM or SIGINT.

    Args:
        archive: See :class:`Forward`.
        router: Address of the router's REST interface.
        user: See :class:`scripts.serving.Router`.
        password_file: See :class:`scripts.serving.Router`.
        log_format: "text" or "json".
    """
    set_up_logs(log_format)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    forward, away = Forward(Router(router, user, password_file, timeout_s=600), archive), ""
    while not stop.is_set():
        try:
            forward.try_all(stop)
            away = ""
        except (AwayError, RefusedError) as error:
            if not away:
                logger.error("%s: %s", router, error)
            away = str(error)
        stop.wait(1)


if __name__ == "__main__":
    from scripts.run.program import program

    program(main)
