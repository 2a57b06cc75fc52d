"""The configs of a shipped bundle: those of the source, with the run's network and the bundle's own weights."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import yaml

from scripts.inference.model_identity import role_of
from scripts.networks.from_record import targets_of
from scripts.shipping.shipment import Shipment

MODEL = "model.pt"
ORIGINAL = "$scripts.run.bundle_root() + '/models/original.pt'"
ORACLE = "$scripts.run.bundle_root() + '/models/oracle.pt'"
OWN = {ORACLE: "null", ORIGINAL: ORIGINAL.replace("original.pt", MODEL)}  # what a shipped bundle has instead
FRAMEWORKS = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}


def write_configs(source: Path, target: Path, shipment: Shipment, metadata: Mapping) -> None:
    """Write the folder ``configs`` of a bundle.

    Args:
        source: ``configs`` of the source.
        target: Folder to make.
        shipment: What is shipped.
        metadata: Content of ``metadata.json``.

    Raises:
        ValueError: a config whose blocks cannot be replaced.
    """
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in relative.parts):
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            (target / relative).write_bytes(path.read_bytes())
    blocks = {"network": shipment.network, "mask": shipment.mask}
    for path in sorted(target.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if "imports" in yaml.safe_load(text):  # a verb; anything else is an overlay
            path.write_text(adapt(text, {k: v for k, v in blocks.items() if v}, path), encoding="utf-8")
    target_name, arguments = shipment.network["_target_"], {**shipment.network}
    del arguments["_target_"]
    for name in ("inference.json", "serve.json"):
        content = json.loads((source / name).read_text(encoding="utf-8"))
        requires = content["network_def"].get("_requires_")
        content["network_def"] = {"_target_": target_name, "_requires_": requires, **arguments}
        content["weights"] = f"$@bundle_root + '/models/{MODEL}'"
        _dump(target / name, content)
    _dump(target / "metadata.json", metadata)


def adapt(text: str, blocks: Mapping[str, Mapping], path: str | Path = "config") -> str:
    """Replace top-level blocks of a YAML text and the default weights, and leave the rest, comments too, as it is.

    What is replaced is found by YAML's own parser, which knows where each value begins and ends.

    >>> print(adapt("mask: # as in the run\\n  rate: 4\\nweights: " + ORIGINAL, {"mask": {"rate": 8}}))
    mask:
      rate: 8
    weights: $scripts.run.bundle_root() + '/models/model.pt'
    """
    edits: list[tuple[int, int, str]] = []
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    for key, value in document.value if document is not None else ():
        if key.value in blocks:
            block = yaml.safe_dump({key.value: dict(blocks[key.value])}, sort_keys=False).rstrip("\n")
            edits.append((key.start_mark.index, _end(value), block))
        else:
            edits += [(s.start_mark.index, s.end_mark.index, OWN[s.value]) for s in _scalars(value) if s.value in OWN]
    expected = _with_own_weights(yaml.safe_load(text))
    expected |= {key: dict(block) for key, block in blocks.items() if key in expected}
    for start, end, new in reversed(edits):
        text = text[:start] + new + text[end:]
    if yaml.safe_load(text) != expected:
        raise ValueError(f"{path}: {', '.join(blocks)}: the blocks could not be replaced without changing the rest")
    return text


def _scalars(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _scalars(child)
    elif isinstance(node, yaml.MappingNode):
        for _, child in node.value:
            yield from _scalars(child)


def _end(node: yaml.Node) -> int:
    """Where a value ends: a block ends with its last scalar, before comments that belong to what follows."""
    if isinstance(node, yaml.ScalarNode) or getattr(node, "flow_style", False):
        return int(node.end_mark.index)
    return max(scalar.end_mark.index for scalar in _scalars(node))


def _with_own_weights(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _with_own_weights(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_own_weights(value) for value in node]
    return yaml.safe_load(OWN[node]) if isinstance(node, str) and node in OWN else node


def make_metadata(
    source: Mapping, shipment: Shipment, *, version: str | None, changelog: str | None, data_source: str | None
) -> dict:
    """Metadata of a shipped bundle: the source's, with the versions installed now and the run's results.

    Raises:
        ValueError: a new version without a changelog entry.
    """
    metadata = copy.deepcopy(dict(source))
    metadata["version"] = str(version or metadata["version"])
    if changelog:
        metadata["changelog"][metadata["version"]] = changelog
    if metadata["version"] not in metadata["changelog"]:
        raise ValueError(f"ship: 'changelog': expected a line for the new version {metadata['version']}, found none")
    for key, package in FRAMEWORKS.items():
        metadata[key] = package_version(package)
    for kind in ("required_packages_version", "packages_of_the_other_verbs"):
        metadata[kind] = {name: package_version(name) for name in metadata[kind] if _is_installed(name)}
    tops = {target.partition(".")[0] for target in targets_of(shipment.network)} - {"scripts", "monai", "torch"}
    metadata["required_packages_version"] |= {name: package_version(name) for name in tops if _is_installed(name)}
    if data_source:
        metadata["data_source"] = data_source
    if role := role_of(shipment.record):  # DICOM files name it; the record itself is not shipped
        metadata["weights_role"] = role
    metadata["eval_metrics"] = {
        f"{cohort} {name}": value["mean"]
        for cohort, values in shipment.own_results.items()
        for name, value in values.items()
        if isinstance(value, Mapping)
    }
    return metadata


def package_version(name: str) -> str:
    """Version of an installed package without its local part, so that a package index knows it."""
    return installed(name).partition("+")[0]


def _is_installed(name: str) -> bool:
    try:
        installed(name)
    except PackageNotFoundError:
        return False
    return True


def _dump(path: Path, content: Mapping) -> None:
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
