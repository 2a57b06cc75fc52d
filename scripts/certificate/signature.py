"""Detached Ed25519 signatures (RFC 8032) of files. Needs the optional package ``cryptography``.

``python -m scripts.certificate.signature make_keys FOLDER`` makes a key pair,
``python -m scripts.certificate.signature sign FILE PRIVATE_KEY`` signs a file.
"""

from __future__ import annotations

import os
from pathlib import Path

from scripts.files import atomic_write

SUFFIX = ".sig"


def make_keys(folder: str | Path) -> tuple[str, str]:
    """Write ``signing_key.pem`` (readable by its owner only) and ``signing_key.pub.pem``.

    Returns:
        Both paths, private first.

    Raises:
        FileExistsError: there is a key already; it is not replaced.
        ModuleNotFoundError: ``cryptography`` is not installed.
    """
    ed25519, serialization = _cryptography()
    private, public = Path(folder) / "signing_key.pem", Path(folder) / "signing_key.pub.pem"
    for path in (private, public):
        if path.exists():
            raise FileExistsError(f"{path}: there is a key already")
    key = ed25519.Ed25519PrivateKey.generate()
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    private.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    with atomic_write(public) as temporary:
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        Path(temporary).write_bytes(key.public_key().public_bytes(encoding, spki))
    return str(private), str(public)


def read_private_key(path: str | Path):
    """The private key in a PEM file.

    Raises:
        FileNotFoundError, ValueError: no such file, or no unencrypted Ed25519 private key.
    """
    ed25519, serialization = _cryptography()
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected an unencrypted Ed25519 private key (PEM), found {error}") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ValueError(f"{path}: expected an Ed25519 private key, found {type(key).__name__}")
    return key


def sign(file: str | Path, private_key: str | Path) -> str:
    """Write the signature of a file's bytes, in hexadecimal digits, to ``<file>.sig``; return its path."""
    signature = read_private_key(private_key).sign(_read(file))
    path = f"{file}{SUFFIX}"
    with atomic_write(path) as temporary:
        Path(temporary).write_text(signature.hex() + "\n", encoding="ascii")
    return path


def signature_holds(file: str | Path, public_key: str | Path, signature: str | Path | None = None) -> bool:
    """Whether a detached signature is that of the file's bytes by the owner of the public key (PEM).

    Args:
        file: what was signed.
        public_key: Ed25519 public key, from a source that is trusted apart from the file.
        signature: by default ``<file>.sig``.

    Raises:
        FileNotFoundError, ValueError: a missing file, or no Ed25519 public key.
    """
    ed25519, serialization = _cryptography()
    from cryptography.exceptions import InvalidSignature

    try:
        key = serialization.load_pem_public_key(_read(public_key))
    except ValueError as error:
        raise ValueError(f"{public_key}: expected an Ed25519 public key (PEM), found {error}") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ValueError(f"{public_key}: expected an Ed25519 public key, found {type(key).__name__}")
    try:
        key.verify(bytes.fromhex(_read(signature or f"{file}{SUFFIX}").decode("ascii")), _read(file))
    except (InvalidSignature, ValueError):  # ValueError: not hexadecimal
        return False
    return True


def _read(path: str | Path) -> bytes:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return Path(path).read_bytes()


def _cryptography():
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("signatures need the package 'cryptography': pip install cryptography") from error
    return ed25519, serialization


if __name__ == "__main__":
    import fire

    fire.Fire({"make_keys": make_keys, "sign": sign})
