"""Which model made an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scripts.run.files import file_sha256


@dataclass(frozen=True)
class ModelIdentity:
    """Named in every output.

    Attributes:
        name: Of the bundle.
        version: Of the bundle.
        weights_sha256: Of the file of weights; "" where unknown.
        certificate_id: SHA-256 of the file of the certificate of unlearning; "" where there is none.
    """

    name: str = ""
    version: str = ""
    weights_sha256: str = ""
    certificate_id: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


def identify_model(name: str, version: str, weights: str | Path, bundle: str | Path) -> ModelIdentity:
    """Identity of a bundle's model.

    Args:
        name: Of the bundle.
        version: Of the bundle.
        weights: The file that is loaded.
        bundle: Its folder, with ``docs/certificate.json`` where a certificate was shipped.

    Raises:
        FileNotFoundError: no such weights.
    """
    if not Path(weights).is_file():
        raise FileNotFoundError(f"{weights}: no such weights file")
    certificate = Path(bundle) / "docs" / "certificate.json"
    identity = file_sha256(certificate) if certificate.is_file() else ""
    return ModelIdentity(str(name), str(version), file_sha256(weights), identity)
