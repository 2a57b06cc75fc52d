"""Keyed hashes in place of patients' identifiers and of file names, which may hold them."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scripts.data.volumes import Volume

KEY_VARIABLE = "MRI_UNLEARNING_KEY"
SCHEME = "HMAC-SHA256"
MIN_KEY, MIN_IDENTIFIER = 16, 3
DIGEST = re.compile(r"[0-9a-f]{16,64}")
IDENTIFYING = ("patient", "subject", "study", "institution", "station", "operator", "referring", "physician")
logger = logging.getLogger(__name__)


class Identifiers:
    """Turns identifiers into keyed hashes; without the key they can neither be read nor guessed and compared.

    Args:
        key: at least 16 bytes, kept apart from the certificate.
        volumes: whose patients and names are the identifiers to be kept out of texts.

    >>> one, other = Identifiers(b"a key of 16 bytes or more"), Identifiers(b"another key of this length")
    >>> one.hash("patient", "P017") == other.hash("patient", "P017")
    False
    """

    def __init__(self, key: bytes, volumes: Iterable[Volume] = ()) -> None:
        if len(key) < MIN_KEY:
            raise ValueError(f"identifier key: expected at least {MIN_KEY} bytes, found {len(key)}")
        self._key = key
        words = {text.lower() for volume in volumes for text in identifying(volume)}
        words = {text for text in words if len(text) >= MIN_IDENTIFIER}
        longest_first = "|".join(map(re.escape, sorted(words, key=lambda text: (-len(text), text))))
        self._pattern = re.compile(rf"(?<![^\W_])(?:{longest_first})(?![^\W_])", re.I) if words else None

    @property
    def key_id(self) -> str:
        """Names the key without giving it away."""
        return self.hash("key", "id")[:16]

    def hash(self, kind: str, value: str) -> str:
        """HMAC-SHA256 of a value of some kind, 64 hexadecimal digits."""
        return hmac.new(self._key, f"{kind}\0{value}".encode(), hashlib.sha256).hexdigest()

    def found_in(self, text: str) -> bool:
        """Whether a text holds an identifier of three characters or more, in any case, as a word or between "_"."""
        return self._pattern is not None and self._pattern.search(text) is not None

    def redact(self, content: Any) -> Any:
        """The same JSON content with each identifier in its texts replaced by the start of its keyed hash."""
        if isinstance(content, str):
            if self._pattern is None or DIGEST.fullmatch(content):
                return content
            return self._pattern.sub(lambda match: f"[{self.hash('text', match[0].lower())[:16]}]", content)
        if isinstance(content, dict):
            return {self.redact(key): self.redact(value) for key, value in content.items()}
        if isinstance(content, (list, tuple)):
            return [self.redact(value) for value in content]
        return content


def identifying(volume: Volume) -> set[str]:
    """What names a scan or its patient: its file and folder, their stems, and what headers say of a person."""
    fields = [v for k, v in volume.fields.items() if k.lower().startswith(IDENTIFYING)]
    parts = [part for path in (volume.name, volume.path) for part in Path(path).parts[-2:]]
    return {volume.patient_id, volume.name, *fields, *parts, *(Path(part).stem for part in parts)} - {""}


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


def make_key(path: str | Path) -> bytes:
    """The key in a file that only its owner can read; a random one is made where there is none."""
    path = Path(path)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
        logger.warning("%s: new key of the certificate's keyed hashes; keep it apart from the certificate", path)
    key = read_key(path)
    assert key is not None, path
    return key
