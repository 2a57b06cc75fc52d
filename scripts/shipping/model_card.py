"""The model card of a shipped bundle: the source's card, with the sections that depend on the run written anew."""

from __future__ import annotations

import re
from collections.abc import Mapping

from scripts.evaluation.table import markdown, model_table
from scripts.shipping.shipment import Shipment

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
    """Text of ``docs/README.md``.

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
    bodies["Data"] = _data(shipment, bodies["Data"], metadata)
    bodies["Training configuration"] = _training(shipment, metadata, lacks)
    bodies["Performance"] = _performance(shipment)
    return head + "".join(f"{title}\n{bodies[title.lstrip('# ')]}" for title in titles)


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
