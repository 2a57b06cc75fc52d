"""SHA-256 of files that a run reads, computed beside its work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from pathlib import Path

from scripts.files import file_sha256

logger = logging.getLogger(__name__)


class FileHashes:
    """Hashes files in a thread of its own; each file is read once, and the run does not wait until it is asked for one.

    Python's hashing and reading leave the interpreter free, so that training loses next to nothing. The thread ends
    with the process, however that ends.

    Args:
        paths: The files; one that is named twice is read once.
    """

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self._paths = dict.fromkeys(map(str, paths))
        self._digests: dict[str, str | None] = {}
        self._thread = threading.Thread(target=self._work, name="file hashes", daemon=True)
        self._thread.start()

    def __getitem__(self, path: str | Path) -> str | None:
        """The hash of a file, 64 hexadecimal digits, once all are known; None for one that could not be read."""
        self._thread.join()
        return self._digests[str(path)]

    def _work(self) -> None:
        for path in self._paths:
            try:
                self._digests[path] = file_sha256(path)
            except OSError as error:
                logger.warning("%s: no hash of it goes into the record: %s", path, error)
                self._digests[path] = None
