"""The certificate's form: an in-toto Statement (v1) about the unlearned weights, by itself or in a DSSE envelope.

Source: the in-toto attestation framework, Statement v1; DSSE, Dead Simple Signing Envelope v1.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.run.files import write_text

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:mri-unlearning:predicate:unlearning:v3"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
SUBJECT = "unlearned.pt"
NAME, ENVELOPE = "certificate.json", "certificate.dsse.json"
MAX_BYTES = 8_000_000
MAX_DIGITS = 18  # of a whole number: fits 64 bits


class Unreadable(ValueError):
    """No certificate of unlearning, or text that does not parse."""


def make_statement(predicate: Mapping[str, Any], subject_sha256: str) -> dict[str, Any]:
    """An in-toto Statement: this predicate holds for the file with this SHA-256."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": SUBJECT, "digest": {"sha256": subject_sha256}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": dict(predicate),
    }


def write_statement(statement: Mapping[str, Any], path: str | Path) -> None:
    """Write a statement as JSON that a person can read."""
    write_text(path, json.dumps(statement, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_payload(path: str | Path) -> tuple[bytes, bool]:
    """The bytes of a statement, and whether they came out of an envelope.

    Raises:
        FileNotFoundError, Unreadable: no such file, or neither statement nor envelope.
    """
    raw = read_bounded(path)
    content = parse(raw, path)
    if "payload" not in content:
        return raw, False
    try:
        return base64.b64decode(content["payload"], validate=True), True
    except (TypeError, ValueError) as error:
        raise Unreadable(f"{path}: 'payload': expected base64, found text that does not decode: {error}") from error


def read_bounded(path: str | Path) -> bytes:
    """The bytes of a file that may come from anyone.

    Raises:
        FileNotFoundError: no regular file; a device would never end.
        Unreadable: more than :data:`MAX_BYTES`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file, found none")
    if path.stat().st_size > MAX_BYTES:
        raise Unreadable(f"{path}: expected at most {MAX_BYTES} bytes, found {path.stat().st_size}")
    return path.read_bytes()


def parse(raw: bytes, path: str | Path) -> dict[str, Any]:
    """The JSON object that some bytes hold.

    What two readers may take for two things is refused: a key that is given twice, NaN, infinite and oversized numbers,
    halves of a surrogate pair.

    Raises:
        Unreadable: no such object.
    """
    try:
        content = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_finite, parse_float=_finite, parse_int=_whole
        )
        json.dumps(content, ensure_ascii=False).encode("utf-8")
    except (RecursionError, ValueError) as error:
        raise Unreadable(f"{path}: expected a JSON certificate, found text that does not parse: {error}") from error
    if not isinstance(content, dict):
        raise Unreadable(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError(f"a key is given twice among {', '.join(sorted(key for key, _ in pairs))}")
    return content
