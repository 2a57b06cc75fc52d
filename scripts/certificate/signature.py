"""The certificate's form and its signature: an in-toto Statement (v1), signed with Ed25519 in a DSSE envelope.

``python -m scripts.certificate.signature make_keys FOLDER`` makes a key pair,
``python -m scripts.certificate.signature sign STATEMENT PRIVATE_KEY`` signs a statement. This needs
the optional packages ``securesystemslib`` and ``cryptography`` (``pip install -e '.[sign]'``).

Source: the in-toto attestation framework, Statement v1; DSSE, Dead Simple Signing Envelope v1.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scripts.run.files import write_text

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:mri-unlearning:predicate:unlearning:v4"
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


def make_keys(folder: str | Path) -> tuple[str, str]:
    """Write ``signing_key.pem`` (readable by its owner only) and ``signing_key.pub.pem``.

    Returns:
        Both paths, private first.

    Raises:
        FileExistsError: there is a key already; it is not replaced.
        ModuleNotFoundError: ``securesystemslib`` is not installed.
    """
    private, public = Path(folder) / "signing_key.pem", Path(folder) / "signing_key.pub.pem"
    for path in (private, public):
        if path.exists():
            raise FileExistsError(f"{path}: there is a key already")
    _library()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, pem = Ed25519PrivateKey.generate(), serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    private.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    known = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_text(public, known.decode("ascii"))
    return str(private), str(public)


def sign(statement: str | Path, private_key: str | Path) -> str:
    """Write the envelope of a statement's bytes beside it, ``certificate.dsse.json``; return its path."""
    from securesystemslib.dsse import Envelope

    payload, _ = read_payload(statement)
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(read_private_key(private_key))
    path = Path(statement).with_name(ENVELOPE)
    write_text(path, json.dumps(envelope.to_dict(), indent=1) + "\n")
    return str(path)


def signature_problem(envelope: str | Path, public_key: str | Path) -> str | None:
    """Why an envelope does not bear the signature of the owner of a public key; None where it does.

    Args:
        envelope: DSSE envelope (JSON).
        public_key: Ed25519 public key (PEM), from a source that is trusted apart from the envelope.

    Raises:
        FileNotFoundError, ValueError: a missing file, or no Ed25519 public key.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError

    key = read_public_key(public_key)
    try:
        content = Envelope.from_dict(parse(read_bounded(envelope), envelope))
        if content.payload_type != PAYLOAD_TYPE:
            return f"payload type {content.payload_type!r}, expected {PAYLOAD_TYPE!r}"
        content.verify([key], threshold=1)
    except VerificationError:
        return "no valid signature by the given key"
    except Exception as error:  # whatever stands in place of an envelope is no signature
        return f"no DSSE envelope: {error!r}"
    return None


def read_private_key(path: str | Path) -> Any:
    """The signer of an unencrypted Ed25519 private key (PEM).

    Raises:
        FileNotFoundError, ValueError: no such file, or no such key.
    """
    library = _library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    kind = "an unencrypted Ed25519 private key"
    return library.CryptoSigner(
        _key(path, lambda pem: load_pem_private_key(pem, password=None), Ed25519PrivateKey, kind)
    )


def read_public_key(path: str | Path) -> Any:
    """An Ed25519 public key (PEM); raises as :func:`read_private_key` does."""
    library = _library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    return library.SSlibKey.from_crypto(_key(path, load_pem_public_key, Ed25519PublicKey, "an Ed25519 public key"))


def _key(path: str | Path, load: Callable[[bytes], Any], kind: type, words: str) -> Any:
    try:
        key = load(read_bounded(path))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected {words} (PEM), found {error}") from error
    if not isinstance(key, kind):
        raise ValueError(f"{path}: expected {words}, found {type(key).__name__}")
    return key


def _library() -> Any:
    try:
        import cryptography  # noqa: F401
        import securesystemslib.signer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "signatures need the packages 'securesystemslib' and 'cryptography': pip install 'securesystemslib[crypto]'"
        ) from error
    return securesystemslib.signer


if __name__ == "__main__":
    from scripts.run.program import program

    program(make_keys, sign)
