"""Keyed hashes in place of patients' identifiers and of file names, which may hold them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from scripts.data.volumes import Volume
from scripts.run.keys import MIN_KEY, keyed_hash, make_key, read_key

__all__ = ["Identifiers", "make_key", "read_key"]

SCHEME = "HMAC-SHA256"
MIN_IDENTIFIER = 3
DIGEST = re.compile(r"[0-9a-f]{16,64}")
IDENTIFYING = ("patient", "subject", "study", "institution", "station", "operator", "referring", "physician")


class Identifiers:
    """Turns identifiers into keyed hashes; without the key they can neither be read nor guessed and compared.

    Args:
        key: The secret key, at least 16 bytes, kept apart from the certificate.
        volumes: The volumes whose patients and names must be kept out of texts.

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
        return keyed_hash(self._key, kind, value)

    def found_in(self, text: str) -> bool:
        """Whether a text holds an identifier of three characters or more, in any case, as a word or between "_"."""
        return self._pattern is not None and self._pattern.search(text) is not None

    def redact(self, content: Any, public: Collection[str] = ()) -> Any:
        """The same JSON content with each identifier in its values replaced by the start of its keyed hash.

        Args:
            content: JSON content, whose keys are the project's own.
            public: Words in lower case that name nobody, although a folder of scans may be called so, such as "data".
        """
        if isinstance(content, str):
            if self._pattern is None or DIGEST.fullmatch(content):
                return content
            return self._pattern.sub(lambda match: self._unless(match[0], public), content)
        if isinstance(content, dict):
            return {key: self.redact(value, public) for key, value in content.items()}
        if isinstance(content, (list, tuple)):
            return [self.redact(value, public) for value in content]
        return content

    def _unless(self, word: str, public: Collection[str]) -> str:
        return word if word.lower() in public else f"[{self.hash('text', word.lower())[:16]}]"


def identifying(volume: Volume) -> set[str]:
    """What names a scan or its patient: its file and folder, their stems, and what headers say of a person."""
    fields = [v for k, v in volume.fields.items() if k.lower().startswith(IDENTIFYING)]
    parts = [part for path in (volume.name, volume.path) for part in Path(path).parts[-2:]]
    return {volume.patient_id, volume.name, *fields, *parts, *(Path(part).stem for part in parts)} - {""}
