"""A time stamp by a third party (RFC 3161) over what was declared: the authority's clock, not the declarer's.

``python -m scripts.certificate.timestamp DECLARATION AUTHORITY`` asks an authority for it and keeps its answer in the
declaration. This needs the optional package ``rfc3161-client`` (``pip install -e '.[timestamp]'``).
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from scripts.certificate.checks import FAILS, UNCHECKED, Finding, finding
from scripts.certificate.declaration import read_declaration
from scripts.run.files import write_text

CONTENT = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
SECONDS = 30
WHAT = "time stamp of the declaration"


def stamp(declaration: str | Path, authority: str) -> str:
    """Ask a time-stamping authority to stamp the hash of what was declared; its answer is kept in the declaration.

    Args:
        declaration: The file ``declaration.json``.
        authority: Address of the authority, http or https. It learns the hash and nothing else.

    Returns:
        The time that the authority states, ISO 8601.

    Raises:
        FileNotFoundError, ValueError, OSError: no declaration, one that has a time stamp, or no answer that counts.
    """
    library = _library()
    content = read_declaration(declaration)
    if content.get("timestamp"):
        raise ValueError(f"{declaration}: 'timestamp': there is one already; a later one says less")
    if not authority.startswith(("http://", "https://")):
        raise ValueError(f"'authority': expected an address that begins with http, found {authority!r}")
    builder = library.TimestampRequestBuilder().hash_algorithm(library.HashAlgorithm.SHA256)
    request = builder.data(_message(content)).build()
    query = urllib.request.Request(authority, data=request.as_bytes(), headers=CONTENT)
    try:
        with urllib.request.urlopen(query, timeout=SECONDS) as reply:
            raw = reply.read()
    except urllib.error.URLError as error:
        raise OSError(f"{authority}: expected a time stamp, found no answer: {error}") from error
    info = _decoded(raw, authority).tst_info
    if (info.message_imprint.message, info.nonce) != (request.message_imprint.message, request.nonce):
        raise ValueError(f"{authority}: expected the answer to this request, found that to another")
    content["timestamp"] = base64.b64encode(raw).decode("ascii")
    write_text(declaration, json.dumps(content, indent=2) + "\n")
    return str(info.gen_time.isoformat())


def timestamp(content: Mapping[str, Any], root: str | Path | None) -> Iterator[Finding]:
    """Whether an authority stamped what was declared, and before the run began.

    Args:
        content: The predicate.
        root: The certificate (PEM) of the authority's root, from a source that is trusted apart from the certificate
            of unlearning; None: nothing is checked.

    Raises:
        FileNotFoundError, ValueError: no such file, or no certificate.
    """
    made, started = content["declaration"], content["method"]["started"]
    if not made.get("timestamp"):
        if root is not None:
            yield FAILS, f"{WHAT}: there is none"
        return
    if root is None:
        yield UNCHECKED, f"{WHAT}: no root certificate of an authority was given"
        return
    library = _library()
    from cryptography.x509 import load_pem_x509_certificate

    if not Path(root).is_file():
        raise FileNotFoundError(f"'timestamp_root': no such file: {root}")
    verifier = (
        library.VerifierBuilder().add_root_certificate(load_pem_x509_certificate(Path(root).read_bytes())).build()
    )
    try:
        response = _decoded(base64.b64decode(made["timestamp"], validate=True), WHAT)
        verifier.verify_message(response, _message(made))
    except (ValueError, library.VerificationError) as error:
        yield FAILS, f"{WHAT}: it is not by that authority over what was declared: {error}"
        return
    at = response.tst_info.gen_time
    yield finding(True, f"{WHAT}: {at.isoformat()}, by the given authority")
    if made["before"] == "the unlearning run":
        began = datetime.strptime(str(started), "%Y-%m-%dT%H:%M:%S%z")
        yield finding(at <= began, f"{WHAT}: before the unlearning run began ({started})")


def _message(declaration: Mapping[str, Any]) -> bytes:
    return str(declaration["sha256"]).encode("ascii")


def _decoded(raw: bytes, where: str) -> Any:
    try:
        response = _library().decode_timestamp_response(raw)
    except ValueError as error:
        raise ValueError(f"{where}: expected a time-stamp response (RFC 3161), found other bytes: {error}") from error
    if response.status not in (0, 1):  # granted, granted with modifications
        raise ValueError(f"{where}: the authority refused: status {response.status}, {response.status_string}")
    return response


def _library() -> Any:
    try:
        import rfc3161_client
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "time stamps need the package 'rfc3161-client': pip install rfc3161-client"
        ) from error
    return rfc3161_client


if __name__ == "__main__":
    from scripts.run.program import program

    program(stamp)
