"""The secret key behind the keyed hashes that stand in place of patients and file names."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import tempfile
from pathlib import Path

KEY_VARIABLE = "MRI_UNLEARNING_KEY"
MIN_KEY = 16
logger = logging.getLogger(__name__)


def read_key(path: str | Path | None) -> bytes | None:
    """The key in a file, else in the environment variable ``MRI_UNLEARNING_KEY``, else None.

    Raises:
        FileNotFoundError, ValueError: a named file that is missing, or a key that is too short.
    """
    if path is not None and not Path(path).is_file():
        raise FileNotFoundError(f"'identifier_key': no such file: {path}")
    key = Path(path).read_bytes().strip() if path is not None else os.environ.get(KEY_VARIABLE, "").encode()
    if not key and path is None:
        return None
    if len(key) < MIN_KEY:
        raise ValueError(f"{path or KEY_VARIABLE}: expected a key of at least {MIN_KEY} bytes, found {len(key)}")
    return key


def keyed_hash(key: bytes, kind: str, value: str) -> str:
    """HMAC-SHA256 of a value of some kind, 64 hexadecimal digits."""
    return hmac.new(key, f"{kind}\0{value}".encode(), hashlib.sha256).hexdigest()


def make_key(path: str | Path) -> bytes:
    """The key in a file that only its owner can read; where there is none, a random one is made."""
    path = Path(path)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(".partial-key-*"):  # by a kill
            left.unlink()
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".partial-key-")  # readable by the owner alone
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        logger.info("%s: new key of the keyed hashes; keep it apart from what holds them", path)
    key = read_key(path)
    assert key is not None
    return key
