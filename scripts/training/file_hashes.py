"""SHA-256 of files that a run reads, computed beside its work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from pathlib import Path

from scripts.data.digests import keep, kept, status
from scripts.run.files import file_sha256

logger = logging.getLogger(__name__)


class FileHashes:
    """Hashes files in a thread of its own; each file is read once, and the run does not wait until it is asked for one.

    Python's hashing and reading leave the interpreter free, so that training loses next to nothing. The thread ends
    with the process, however that ends. Later runs know the hashes (:func:`scripts.data.digests.known_sha256`).

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

    def refuse_changed(self) -> None:
        """Refuse files that were taken for unchanged ones, by size and times, and hold something else.

        Raises:
            RuntimeError: naming the file and both hashes, once all are known.
        """
        for path in self._paths:
            entry, found = kept(path), self[path]
            if entry is not None and found is not None and found != entry["sha256"]:
                raise RuntimeError(
                    f"{path}: expected the file that was checked or hashed before, SHA-256 {entry['sha256']}, found "
                    f"{found} with the same size and times: no result is kept. `touch` it to have it checked again"
                )

    def _work(self) -> None:
        for path in self._paths:
            try:
                self._digests[path] = _hashed(path)
            except OSError as error:
                logger.warning("%s: no hash of it goes into the record: %s", path, error)
                self._digests[path] = None


def _hashed(path: str) -> str:
    """The hash of the file's bytes as they are now; what is kept of another content stays, to be compared."""
    before = status(path) if Path(path).exists() else None
    digest = file_sha256(path)
    if before is not None and kept(path) is None:
        keep(path, before, digest)
    return digest
