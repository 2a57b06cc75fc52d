"""Series on their way to the router: whatever lies in the output folder is handed over, also after a kill."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom

from scripts.serving.router import LONGEST_WAIT_S, AwayError, Failure, RefusedError, Router

REFUSED, WAITING = 3, 75
"""Exit codes of ``send``: the router refused a series; it is away (EX_TEMPFAIL)."""
logger = logging.getLogger(__name__)


class HandOver:
    """Gives every series below a folder to a router.

    The folder is the queue: a series is a folder with ``*.dcm``, which appears whole or not at all, and is removed when
    the router has said of each of its images that it is stored. What was sent before a kill is sent again with the same
    UIDs. A series that the router does not take stays where it is, is named, and is tried again while others pass it.

    Args:
        folder: Of the series.
        router: Where they go.
        retry_s: Wait after a failure; it doubles for the same series, to at most a minute.
        remove: Remove what was handed over.
        handed_over: Called with the folder of each series that was.
    """

    def __init__(
        self,
        folder: str | Path,
        router: Router,
        retry_s: float = 5,
        remove: bool = True,
        handed_over: Callable[[Path], None] = lambda series: None,
    ) -> None:
        self.folder, self.router, self.retry_s = Path(folder), router, retry_s
        self.remove, self.handed_over = remove, handed_over
        self.failures: dict[Path, Failure] = {}
        self.away = ""  # what is known of a router that does not answer
        self.images = 0  # handed over since the start
        self._done: set[Path] = set()  # and not removed
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def waiting(self) -> dict[Path, list[str]]:
        """Series that wait, the oldest first, with the names of their images."""
        found = []
        for root, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]  # not what is being written
            images = sorted(name for name in names if name.endswith(".dcm"))
            if images and (path := Path(root)) not in self._done:
                found.append((_age(path), path, images))
        return {path: images for _, path, images in sorted(found)}

    def health(self) -> dict[str, Any]:
        """What waits, for how long, and what was not taken and why."""
        waiting = self.waiting()
        failures = {series.name: failure.reason for series, failure in list(self.failures.items())}
        return {
            "router": self.away or "answers",
            "away": bool(self.away),
            "series": len(waiting),
            "images": sum(map(len, waiting.values())),
            "oldest_s": round(time.time() - min(map(_age, waiting)), 1) if waiting else 0,
            "handed_over": self.images,
            "failing": len(failures),
            "refused": dict(list(failures.items())[:100]),
        }

    def try_all(self) -> None:
        """Try every series whose time has come.

        Raises:
            AwayError: the router does not answer; what is left waits.
        """
        waiting = self.waiting()
        for gone in self.failures.keys() - waiting.keys():
            del self.failures[gone]
        for series, images in waiting.items():
            if self._stop.is_set():
                return
            failure = self.failures.get(series, Failure())
            if time.monotonic() < failure.next_try:
                continue
            stored = set(failure.stored)
            try:
                for name in images:
                    if name not in stored:
                        self._store(series / name)
                        stored.add(name)
                self._finished(series, len(images))
            except (RefusedError, OSError) as error:  # this series: the others have their own chance
                if isinstance(error, AwayError) and not self.router.answers():
                    raise
                self.failures[series] = failure.again(str(error), self.retry_s, stored)
                if not failure.reason:  # once; health has the latest reason
                    logger.error("%s: not handed over to %s: %s", series, self.router, error)
            self.away = ""

    def start(self) -> None:
        """Hand over in a thread of its own until :meth:`stop`."""
        self._thread = threading.Thread(target=self._run, name="hand-over", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread; an image that is under way is sent again after the next start."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(1)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            pause: float = LONGEST_WAIT_S
            try:
                self.try_all()
                if self.failures:
                    next_try = min(failure.next_try for failure in self.failures.values())
                    pause = max(next_try - time.monotonic(), 0.01)
            except Exception as error:  # the router is away, or a folder cannot be read: nothing is lost, so try again
                if not self.away:
                    logger.error("%s: %d series wait: %s", self.router, len(self.waiting()), error)
                self.away, pause = str(error), self.retry_s
                self._stop.wait(pause)  # new series do not make it sooner
                continue
            self._wake.wait(pause)

    def _store(self, image: Path) -> None:
        try:
            self.router.store(image)
        except (RefusedError, OSError, pydicom.errors.InvalidDicomError) as error:
            raise error if isinstance(error, AwayError) else RefusedError(f"{image.name}: {error}") from error

    def _finished(self, series: Path, images: int) -> None:
        if self.remove:
            shutil.rmtree(series)
        else:
            self._done.add(series)
        self.images += images
        self.failures.pop(series, None)
        logger.info("%s: %d images handed over to %s", series.name, images, self.router)
        self.handed_over(series)


def send(source: str | Path, router: Router, patience_s: float = 60) -> int:
    """Hand over every series below a folder; the files stay where they are.

    Args:
        source: Folder with series (folders of ``*.dcm``) anywhere below it.
        router: Where they go.
        patience_s: How long a router that is away or refuses is tried again.

    Returns:
        How many images the router stored.

    Raises:
        FileNotFoundError: nothing to hand over.
        SystemExit: a series was refused (code 3) or waits for a router that is away (75); each is named.
    """
    queue = HandOver(source, router, retry_s=1, remove=False)
    if not queue.waiting():
        raise FileNotFoundError(f"{source}: 'source': expected DICOM files (*.dcm), found none")
    deadline = time.monotonic() + patience_s
    while True:
        try:
            queue.try_all()
            code, reasons = REFUSED, [f"{series}: {failure.reason}" for series, failure in queue.failures.items()]
        except AwayError as error:
            code, reasons = WAITING, [f"{router}: {error}"]
        waiting = queue.waiting()
        if not waiting:
            logger.info("%s stored %d images", router, queue.images)
            return queue.images
        if time.monotonic() > deadline:
            counted = f"{sum(map(len, waiting.values()))} images in {len(waiting)} series were not handed over"
            print(f"{counted}:", *reasons, sep="\n", file=sys.stderr)
            sys.exit(code)
        time.sleep(0.2)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # handed over and removed since
        return 0.0
