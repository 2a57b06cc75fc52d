"""Which model made an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.run.files import file_sha256, json_object

NOT_AUDITED = "not audited"


@dataclass(frozen=True)
class ModelIdentity:
    """Named in every output.

    Attributes:
        name: Of the bundle.
        version: Of the bundle.
        weights_sha256: Of the file of weights; "" where unknown.
        certificate_id: SHA-256 of the certificate of unlearning of these weights; "" where there is none.
        role: What the weights are: original, oracle, or the method that unlearned; "" where no record says it.
    """

    name: str = ""
    version: str = ""
    weights_sha256: str = ""
    certificate_id: str = ""
    role: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()

    @property
    def tag(self) -> str:
        """What tells these weights from others, as a part of a file's name.

        >>> ModelIdentity("Model", "1.0", "ab" * 32, role="oracle").tag
        'oracle-abababab'
        """
        return "-".join(filter(None, (self.role, self.weights_sha256[:8])))

    @property
    def audit(self) -> str:
        """The certificate by the first digits of its hash, or that there is none."""
        return f"certificate {self.certificate_id[:8]}" if self.certificate_id else NOT_AUDITED


def identify_model(name: str, version: str, weights: str | Path, bundle: str | Path) -> ModelIdentity:
    """Identity of a bundle's model.

    The role is that of the record beside the weights (their name with the suffix ``.json``) or, in a shipped bundle,
    which has no record, of ``weights_role`` in ``configs/metadata.json``.

    Args:
        name: Of the bundle.
        version: Of the bundle.
        weights: The file that is loaded.
        bundle: Its folder; ``docs/certificate.json`` counts where it is the certificate of these weights.

    Raises:
        FileNotFoundError: no such weights.
    """
    weights, bundle = Path(weights), Path(bundle)
    if not weights.is_file():
        raise FileNotFoundError(f"{weights}: no such weights file")
    sha256 = file_sha256(weights)
    path = bundle / "docs" / "certificate.json"
    certificate = file_sha256(path) if sha256 in certified_weights(path) else ""
    record = json_object(weights.with_suffix(".json"))
    role = role_of(record) or str(json_object(bundle / "configs" / "metadata.json").get("weights_role", ""))
    return ModelIdentity(str(name), str(version), sha256, certificate, role)


def role_of(record: Mapping[str, Any]) -> str:
    """What the weights of a run are, by its record; "" where it does not say.

    >>> role_of({"verb": "train", "oracle": True}), role_of({"verb": "unlearn", "method": "gain_target"})
    ('oracle', 'unlearned_gain_target')
    """
    if record.get("verb") == "train":
        return "oracle" if record.get("oracle") else "forget_only" if record.get("forget_only") else "original"
    if record.get("verb") == "unlearn":
        return f"unlearned_{record['method']}" if isinstance(record.get("method"), str) else "unlearned"
    return ""


def certified_weights(path: Path) -> set[str]:
    """SHA-256 of the files that a certificate, an in-toto statement, is about; empty where there is none."""
    subjects = json_object(path).get("subject")
    return {str(item.get("digest", {}).get("sha256")) for item in subjects} if isinstance(subjects, list) else set()
