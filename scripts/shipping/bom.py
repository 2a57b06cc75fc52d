"""The bill of materials of a shipped bundle: the network, the data it was made from, and the packages it needs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from scripts.run.files import file_sha256, write_text
from scripts.shipping.shipment import Shipment

NAME = "bom.cdx.json"
FRAMEWORKS = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}


def write_bom(path: str | Path, model: str | Path, shipment: Shipment, metadata: Mapping[str, Any]) -> bool:
    """Write a machine-learning bill of materials as CycloneDX 1.6 JSON.

    Data have their roles, numbers and the hash of their list, and no names. Equal inputs give equal bytes: the time is
    that of the run, the serial number follows from the weights.

    Args:
        path: The file to make.
        model: The shipped weights.
        shipment: What is shipped.
        metadata: Content of ``metadata.json``.

    Returns:
        Whether it was written: it needs the optional package ``cyclonedx-python-lib``.

    Source: CycloneDX Bill of Materials Specification (ECMA-424), version 1.6.
    """
    try:
        from cyclonedx.model.bom import Bom
        from cyclonedx.output.json import JsonV1Dot6
    except ModuleNotFoundError:
        return False
    sha256 = file_sha256(model)
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"sha256:{sha256}"))
    bom.metadata.timestamp = _time(shipment.record)
    network = _network(sha256, shipment, metadata)
    needed = [*_packages(metadata), *_data(shipment.record)]
    bom.metadata.component = network
    bom.components = needed
    bom.register_dependency(network, needed)
    write_text(path, JsonV1Dot6(bom).output_as_string(indent=2) + "\n")
    return True


def _network(sha256: str, shipment: Shipment, metadata: Mapping[str, Any]) -> Any:
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
    from cyclonedx.model.component import Component, ComponentType

    record = shipment.record
    facts = {
        "network": shipment.network["_target_"],
        "method": record.get("method"),
        "seed": record.get("seed"),
        "weights before (SHA-256)": (record.get("weights_in") or {}).get("sha256"),
    }
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=metadata["name"],
        version=metadata["version"],
        bom_ref="network",
        description=metadata["description"],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
        external_references=[ExternalReference(type=ExternalReferenceType.MODEL_CARD, url=XsUri("docs/README.md"))],
        properties=[Property(name=name, value=str(value)) for name, value in facts.items() if value is not None],
    )


def _packages(metadata: Mapping[str, Any]) -> Iterator[Any]:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    versions = {name: metadata[key] for name, key in FRAMEWORKS.items()} | dict(metadata["required_packages_version"])
    for name, version in sorted(versions.items()):
        url = PackageURL("pypi", name=name, version=version)
        yield Component(type=ComponentType.LIBRARY, name=name, version=version, purl=url, bom_ref=str(url))


def _data(record: Mapping[str, Any]) -> Iterator[Any]:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    sha256 = record.get("datalist", {}).get("sha256")
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else []
    for role, part in sorted(record.get("data", {}).items()):
        read = f"{len(part['volumes'])} volumes, {part['slices']} slices; the hash is that of their datalist"
        yield Component(type=ComponentType.DATA, name=role, bom_ref=f"data-{role}", description=read, hashes=hashes)


def _time(record: Mapping[str, Any]) -> Any:
    """When the run began; None where no record says it: the time of shipping would make equal inputs differ."""
    try:
        return datetime.strptime(str(record.get("started")), "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return None
