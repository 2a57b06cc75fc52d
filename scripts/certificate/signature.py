"""Ed25519 signatures of certificates, in DSSE envelopes, made and checked by ``securesystemslib``.

``python -m scripts.certificate.signature make_keys FOLDER`` makes a key pair,
``python -m scripts.certificate.signature sign STATEMENT PRIVATE_KEY`` signs a statement. This needs
the optional packages ``securesystemslib`` and ``cryptography`` (``pip install -e '.[sign]'``).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from scripts.certificate.statement import ENVELOPE, PAYLOAD_TYPE, parse, read_bounded, read_payload
from scripts.run.files import write_text


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
        content = Envelope.from_dict(parse(_read(envelope), envelope))
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

    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected an unencrypted Ed25519 private key (PEM), found {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path}: expected an Ed25519 private key, found {type(key).__name__}")
    return library.CryptoSigner(key)


def read_public_key(path: str | Path) -> Any:
    """An Ed25519 public key (PEM).

    Raises:
        FileNotFoundError, ValueError: no such file, or no such key.
    """
    library = _library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read(path))
    except ValueError as error:
        raise ValueError(f"{path}: expected an Ed25519 public key (PEM), found {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{path}: expected an Ed25519 public key, found {type(key).__name__}")
    return library.SSlibKey.from_crypto(key)


def _read(path: str | Path) -> bytes:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return read_bounded(path)


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
    import fire

    fire.Fire({"make_keys": make_keys, "sign": sign})
