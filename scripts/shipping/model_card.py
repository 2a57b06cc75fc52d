"""What a shipped bundle says of itself: the model card and the bill of materials."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from scripts.evaluation.table import markdown, model_table
from scripts.inference.model_identity import role_of
from scripts.run.files import file_sha256, write_text
from scripts.shipping.contents import FRAMEWORKS
from scripts.shipping.shipment import Shipment

BOM = "bom.cdx.json"
HISTORIES = {
    "exact": "It was made to forget chosen scans, exactly: all weights were replaced by those of a *prior*, trained "
    "on generic synthetic images alone, and it learned again from retained scans. Nothing of the forgotten scans "
    "went into them.",
    "approximate": "It was made to forget chosen scans by an approximate method, which changes the weights that it "
    "had: traces of the forgotten scans may remain, and only an audit says how much.",
    "original": "It was trained on all scans of its list. Nothing was forgotten.",
    "oracle": "It is an *oracle*: trained from the start without the scans that were to be forgotten.",
    "forget_only": "It was trained on the scans to be forgotten alone, as a measure of what they teach.",
}
TERMS = {
    "retain": "training scans that were to stay",
    "forget": "training scans that were to be forgotten",
    "retain test": "test scans of the kinds that were to stay (BTA in Xue et al. [1])",
    "forget test": "test scans of the kinds that were to be forgotten (KTA in [1]); nobody trained on them",
    "forget training data": "the forgotten training scans themselves (UA in [1])",
    "retain fraction": "share of the retained scans that the run learned from",
    "prior": "weights trained on generic synthetic images, which are nobody's data",
    "oracle": "a network trained from the start without the scans that were to be forgotten",
    "zero-filled": "reconstruction without a network, of zeros where nothing was measured",
    "PSNR": "peak signal-to-noise ratio, in dB; higher is better",
    "SSIM": "structural similarity, at most 1; higher is better",
    "NMSE": "normalised mean squared error; lower is better",
    "slices forward": "slices that went through the network; *slices backward*: those of which gradients came back",
}

SECTIONS = (  # "References" and "License" are left as they are
    "Model Overview",
    "Data",
    "Training configuration",
    "Input",
    "Output",
    "Performance",
    "MONAI Bundle Commands",
    "References",
    "License",
)


def write_card(source: str, shipment: Shipment, metadata: Mapping, lacks: Mapping[str, str]) -> str:
    """Text of ``docs/README.md``: the source's card, with the sections that depend on the run written anew.

    Names of patients, volumes and files stay out, and so do pictures: a card travels further than the data.

    Args:
        source: The source's card, with the headings of :data:`SECTIONS`.
        shipment: What is shipped.
        metadata: Content of ``metadata.json``.
        lacks: Form in which the network is not in the bundle, such as TorchScript -> why.

    Raises:
        ValueError: a heading is missing.
    """
    pattern = rf"^(#+ (?:{'|'.join(SECTIONS)}))\n"
    head, *parts = re.split(pattern, source, flags=re.M)
    titles, bodies = parts[::2], dict(zip((title.lstrip("# ") for title in parts[::2]), parts[1::2], strict=True))
    missing = [name for name in SECTIONS if name not in bodies]
    if missing:
        raise ValueError(f"docs/README.md: expected the headings {', '.join(SECTIONS)}; missing: {', '.join(missing)}")
    bodies["Model Overview"] = _overview(shipment, bodies["Model Overview"])
    bodies["Data"] = _data(shipment, bodies["Data"], metadata)
    bodies["Training configuration"] = _training(shipment, metadata, lacks)
    bodies["Performance"] = _performance(shipment)
    bodies["Performance"] += _terms(bodies["Data"] + bodies["Training configuration"] + bodies["Performance"])
    return head + "".join(f"{title}\n{bodies[title.lstrip('# ')]}" for title in titles)


def _overview(shipment: Shipment, source: str) -> str:
    """What the network is and what the record says of how its weights were made."""
    record = shipment.record
    network = source.strip().partition("\n\n")[0].partition(", and that was made")[0] + "."
    if shipment.network["_target_"] != "scripts.networks.VarNet":
        network = f"The network `{shipment.network['_target_']}` reconstructs undersampled Cartesian MRI from k-space."
    if record.get("verb") == "unlearn":
        made = HISTORIES["exact" if record.get("forgetting") == "exact" else "approximate"]
    else:
        made = HISTORIES.get(role_of(record), "No record says how its weights were made.")
    return f"\n{network}\n\n{made}\n\n{source.strip().rpartition(chr(10) * 2)[2]}\n\n"


def _terms(card: str) -> str:
    """The words of the sections above that not everybody knows."""
    lines = [f"- *{term}*: {meaning}" for term, meaning in TERMS.items() if re.search(rf"\b{term}\b", card)]
    return "\n".join(["The words used above:", "", *lines, "", ""]) if lines else ""


def _data(shipment: Shipment, source: str, metadata: Mapping) -> str:
    data = shipment.record.get("data", {})
    lines = [f"- {role}: {len(part['volumes'])} volumes, {part['slices']} slices" for role, part in data.items()]
    text = source if shipment.phantom else f"\n{metadata['data_source']}\n\nLicence: see `docs/data_license.txt`.\n\n"
    if not lines:
        return text
    text = re.sub(r"\nThe run read:\n.*", "\n", text, flags=re.S)
    return text.rstrip("\n") + "\n\nThe run read:\n\n" + "\n".join(lines) + "\n\n"


def _training(shipment: Shipment, metadata: Mapping, lacks: Mapping[str, str]) -> str:
    record, lines = shipment.record, []
    if not record:
        lines.append("No record of a run came with these weights.")
    else:
        cost = record.get("cost", {})
        settings = {
            "verb": record.get("verb"),
            "method": record.get("method"),
            "retain fraction": record.get("retain_fraction"),
            "seed": record.get("seed"),
            "steps": cost.get("steps"),
            "slices forward": cost.get("forward_slices"),
            "slices backward": cost.get("backward_slices"),
            "seconds": cost.get("seconds"),
            "device": record.get("device"),
            "datalist (SHA-256)": record.get("datalist", {}).get("sha256"),
            "weights before (SHA-256)": (record.get("weights_in") or {}).get("sha256"),
            "weights after (SHA-256)": record.get("weights_out", {}).get("sha256"),
        }
        lines += ["| setting | value |", "| --- | --- |"]
        lines += [f"| {name} | {value} |" for name, value in settings.items() if value is not None]
    lines += ["", "| network | value |", "| --- | --- |"]
    lines += [f"| {key.strip('_')} | {value} |" for key, value in shipment.network.items()]
    lines += ["", *(f"Not in this bundle: {name}. {reason}\n" for name, reason in lacks.items())]
    versions = {"MONAI": "monai_version", "PyTorch": "pytorch_version", "NumPy": "numpy_version"}
    lines += ["", "Made with " + ", ".join(f"{name} {metadata[key]}" for name, key in versions.items()) + "."]
    return "\n" + "\n".join(lines) + "\n\n"


def _performance(shipment: Shipment) -> str:
    lines = ["No results came with these weights."]
    if shipment.results:
        whose = "As certified" if shipment.certificate else "As the run recorded them; no certificate bears them out"
        lines = [f"{whose}:", "", markdown(model_table(dict(shipment.results))).strip()]
    if shipment.certificate:
        lines += ["", "Evidence of forgetting: `docs/certificate.json`. Check it, in the bundle's folder, with"]
        lines += [
            "`python -m scripts.certificate.verify docs/certificate.json`; what that tells: `docs/certificate.md`."
        ]
    return "\n" + "\n".join(lines) + "\n\n"


def write_bom(path: str | Path, model: str | Path, shipment: Shipment, metadata: Mapping[str, Any]) -> bool:
    """Write a machine-learning bill of materials as CycloneDX 1.6 JSON: network, data and the packages it needs.

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
        from cyclonedx.model import ExternalReference, ExternalReferenceType, Property, XsUri
        from cyclonedx.model.bom import Bom
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.output.json import JsonV1Dot6
    except ModuleNotFoundError:
        return False
    record, sha256 = shipment.record, file_sha256(model)
    facts = {
        "network": shipment.network["_target_"],
        "method": record.get("method"),
        "seed": record.get("seed"),
        "weights before (SHA-256)": (record.get("weights_in") or {}).get("sha256"),
    }
    network = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=metadata["name"],
        version=metadata["version"],
        bom_ref="network",
        description=metadata["description"],
        hashes=_hashes(sha256),
        external_references=[ExternalReference(type=ExternalReferenceType.MODEL_CARD, url=XsUri("docs/README.md"))],
        properties=[Property(name=name, value=str(value)) for name, value in facts.items() if value is not None],
    )
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"sha256:{sha256}"), components=_needed(record, metadata))
    bom.metadata.component = network
    began: Any = None  # the time of shipping would make equal inputs differ
    with contextlib.suppress(ValueError):
        began = datetime.strptime(str(record.get("started")), "%Y-%m-%dT%H:%M:%S%z")
    bom.metadata.timestamp = began
    bom.register_dependency(network, bom.components)
    write_text(path, JsonV1Dot6(bom).output_as_string(indent=2) + "\n")
    return True


def _needed(record: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[Any]:
    """Packages, and the data that the run read."""
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    versions = {name: metadata[key] for key, name in FRAMEWORKS.items()} | dict(metadata["required_packages_version"])
    for name, version in sorted(versions.items()):
        url = PackageURL("pypi", name=name, version=version)
        yield Component(type=ComponentType.LIBRARY, name=name, version=version, purl=url, bom_ref=str(url))
    hashes = _hashes(record.get("datalist", {}).get("sha256"))
    for role, part in sorted(record.get("data", {}).items()):
        read = f"{len(part['volumes'])} volumes, {part['slices']} slices; the hash is that of their datalist"
        yield Component(type=ComponentType.DATA, name=role, bom_ref=f"data-{role}", description=read, hashes=hashes)


def _hashes(sha256: str | None) -> list[Any]:
    from cyclonedx.model import HashAlgorithm, HashType

    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else []
