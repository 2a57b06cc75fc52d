"""Which model made an image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from scripts.files import file_sha256


@dataclass(frozen=True)
class ModelIdentity:
    """Named in every output.

    Attributes:
        name: of the bundle.
        version: of the bundle.
        weights_sha256: of the file of weights; "" where unknown.
        certificate_id: SHA-256 of the content of the certificate of unlearning; "" where there is none.
    """

    name: str = ""
    version: str = ""
    weights_sha256: str = ""
    certificate_id: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


def identify_model(name: str, version: str, weights: str | Path, certificate: str | Path) -> ModelIdentity:
    """Identity of a bundle's model.

    Args:
        name: of the bundle.
        version: of the bundle.
        weights: the file that is loaded.
        certificate: ``certificate.json`` of the unlearning run; it may be missing.

    Raises:
        FileNotFoundError: no such weights.
        ValueError: a certificate without ``content_sha256``.
    """
    if not Path(weights).is_file():
        raise FileNotFoundError(f"{weights}: no such weights file")
    identity = ""
    if Path(certificate).is_file():
        try:
            identity = str(json.loads(Path(certificate).read_text(encoding="utf-8"))["content_sha256"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{certificate}: expected a certificate with 'content_sha256', found {error!r}") from error
    return ModelIdentity(str(name), str(version), file_sha256(weights), identity)
