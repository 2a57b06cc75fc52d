"""What reconstructs needs the packages that a shipped bundle asks for, and no others."""

import ast
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = json.loads((ROOT / "bundle" / "configs" / "inference.json").read_text())
METADATA = json.loads((ROOT / "bundle" / "configs" / "metadata.json").read_text())
NAMES = {"pytorch-ignite": "ignite"}
WITH_MONAI = {"monai", "torch", "numpy", "filelock"}  # fields of their own in the metadata; torch brings filelock


def targets(node) -> set[str]:
    """Every ``_target_`` of the project in a configuration."""
    if isinstance(node, dict):
        own = {node["_target_"]} if str(node.get("_target_", "")).startswith("scripts.") else set()
        return own.union(*(targets(value) for value in node.values()))
    return set().union(*(targets(value) for value in node)) if isinstance(node, list) else set()


def file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def is_main(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)


def imported_at_once(path: Path) -> set[str]:
    """Modules that a file imports when it is imported: not those that a function imports when it is called."""
    found = set()
    nodes = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not is_main(node):
            nodes += list(ast.iter_child_nodes(node))
    return found


def reached(modules: set[str]) -> set[str]:
    """All modules that are imported with these, packages on the way included."""
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parts = name.split(".")
        waiting += [".".join(parts[:i]) for i in range(1, len(parts))]
        if parts[0] == "scripts" and (path := file_of(name)) is not None:
            waiting += imported_at_once(path)
    return seen


def third_party(modules: set[str]) -> set[str]:
    tops = {name.partition(".")[0] for name in reached(modules)}
    return tops - set(sys.stdlib_module_names) - {"scripts", "mri_unlearning"}


def test_the_walk_sees_what_is_imported():
    assert {"jsonschema", "scipy"} <= third_party({"scripts.certificate.verify"})


def test_inference_imports_the_required_packages_and_no_others():
    modules = {target.rpartition(".")[0] for target in targets(CONFIG)}
    assert "scripts.inference" in modules
    required = {NAMES.get(name, name) for name in METADATA["required_packages_version"]}
    assert required == {"fire", "h5py", "nibabel", "ignite"}  # fire: MONAI's command line
    assert third_party(modules) <= required | WITH_MONAI


@pytest.mark.parametrize("name", ["ismrmrd", "pydicom"])
def test_what_few_files_need_is_imported_when_it_is_used(name):
    modules = {target.rpartition(".")[0] for target in targets(CONFIG)}
    assert name not in third_party(modules)
