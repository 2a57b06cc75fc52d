"""What a shipped bundle holds of the project: the configs, and the modules that its programs reach."""

from __future__ import annotations

import ast
import copy
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from importlib.util import resolve_name
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
FULL, INFERENCE = "full", "inference"
CONFIGS = {FULL: ("**/*",), INFERENCE: ("*.json", "logging.conf", "router/*", "container/*")}
COMMANDS = ("scripts.run.manifest", "scripts.serving.forward", "scripts.shipping.deploy_app")
"""Programs of the documents that are shipped, beside what the configs name."""
VERIFIER, GATES = "scripts.certificate.verify", "gates.yaml"  # and what it judges by
NAME = re.compile(r"(?<![\w.])scripts(?:\.[A-Za-z_]\w*)+")


def write_configs(source: Path, target: Path, shipment: Shipment, metadata: Mapping, profile: str) -> None:
    """Write the folder ``configs`` of a bundle.

    Args:
        source: ``configs`` of the source.
        target: Folder to make.
        shipment: What is shipped.
        metadata: Content of ``metadata.json``.
        profile: "inference": what reconstructs and serves; "full": all.

    Raises:
        ValueError: a config whose blocks cannot be replaced.
    """
    patterns = (*CONFIGS[profile], *([GATES] if shipment.certificate else []))
    found = {path for pattern in patterns for path in source.glob(pattern) if path.is_file()}
    for path in sorted(found):
        relative = path.relative_to(source)
        if not any(part.startswith((".", "__pycache__")) for part in relative.parts):
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / relative)
    blocks = {"network": shipment.network, "mask": shipment.mask}
    for path in sorted(target.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if "imports" in yaml.safe_load(text):  # a verb; anything else is an overlay
            path.write_text(adapt(text, {k: v for k, v in blocks.items() if v}, path), encoding="utf-8")
    for name in ("inference.json", "serve.json"):
        content = json.loads((source / name).read_text(encoding="utf-8"))
        requires = {"_requires_": content["network_def"].get("_requires_")}
        content["network_def"] = {"_target_": shipment.network["_target_"], **requires, **shipment.network}
        content["weights"] = f"$@bundle_root + '/models/{MODEL}'"
        _dump(target / name, content)
    _dump(target / "metadata.json", metadata)


def adapt(text: str, blocks: Mapping[str, Mapping], path: str | Path = "config") -> str:
    """Replace top-level blocks of a YAML text and the default weights, and leave the rest, comments too, as it is.

    Raises:
        ValueError: what is read from the new text differs in anything else.

    >>> print(adapt("mask: # as in the run\\n  rate: 4\\nweights: " + ORIGINAL, {"mask": {"rate": 8}}))
    mask:
      rate: 8
    weights: $scripts.run.bundle_root() + '/models/model.pt'
    """
    expected = _with_own_weights(yaml.safe_load(text))
    expected |= {key: dict(block) for key, block in blocks.items() if key in expected}
    for old, new in OWN.items():
        text = text.replace(old, new)
    for key, block in blocks.items():
        new = yaml.safe_dump({key: dict(block)}, sort_keys=False)
        text = re.sub(rf"^{key}:.*\n(?:[ -].*\n)*", new.replace("\\", r"\\"), text, flags=re.M)
    if yaml.safe_load(text) != expected:
        raise ValueError(f"{path}: {', '.join(blocks)}: the blocks could not be replaced without changing the rest")
    return text


def _with_own_weights(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _with_own_weights(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_own_weights(value) for value in node]
    return yaml.safe_load(OWN[node]) if isinstance(node, str) and node in OWN else node


def copy_modules(source: Path, folder: Path, shipment: Shipment, profile: str) -> None:
    """Copy what a bundle needs of the package ``scripts``, with the templates beside its modules.

    Args:
        source: The bundle of this code.
        folder: The bundle, with its configs and the user's own modules.
        shipment: What is shipped.
        profile: "inference": the modules that the configs, the programs of the documents, the network and, with a
            certificate, its verifier import, wherever in a module they do; "full": all.
    """
    scripts = Path(__file__).parents[1]
    if profile == FULL:
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(scripts, folder / "scripts", ignore=ignored, copy_function=shutil.copyfile)
        shutil.copyfile(source / "mri_unlearning.py", folder / "mri_unlearning.py")
        return
    texts = [path.read_text(encoding="utf-8") for path in (folder / "configs").glob("*.json")]
    names = {*NAME.findall(" ".join(texts)), *targets_of(shipment.network), *COMMANDS}
    names |= {VERIFIER} if shipment.certificate else set()
    for path in reached_modules(names, folder, scripts.parent):
        if path.is_relative_to(scripts):
            beside = [path, *(other for other in path.parent.rglob("*.*") if other.suffix not in (".py", ".pyc"))]
            for file in beside if path.parent != scripts else [path]:
                target = folder / file.relative_to(scripts.parent)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)


def reached_modules(names: Iterable[str], *folders: Path) -> set[Path]:
    """The files of all modules in some folders that are imported with these names, also when a function is called.

    Args:
        names: Dotted names of modules, classes or functions.
        folders: Where modules are looked for; others are not followed.
    """
    found: dict[str, Path] = {}
    waiting = list(names)
    while waiting:
        parts = waiting.pop().split(".")
        for module in (".".join(parts[:end]) for end in range(1, len(parts) + 1)):
            if module in found:
                continue
            places = [folder.joinpath(*module.split(".")) for folder in folders]
            files = [file for place in places for file in (place / "__init__.py", place.with_suffix(".py"))]
            path = next((file for file in files if file.is_file()), None)
            if path is None:  # another package's, or a name within the module
                break
            found[module] = path
            waiting += _imported(path, module if path.stem == "__init__" else module.rpartition(".")[0])
    return set(found.values())


def _imported(path: Path, package: str) -> Iterator[str]:
    """Dotted names that a module of a package imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def make_metadata(
    source: Mapping,
    shipment: Shipment,
    profile: str,
    *,
    version: str | None,
    changelog: str | None,
    data_source: str | None,
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
    if profile == INFERENCE and not shipment.certificate:
        del metadata["packages_of_the_other_verbs"]
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
