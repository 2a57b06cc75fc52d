"""The house as it should stand: imports run one way, and every name in configurations and docs leads somewhere."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUNDLE = ROOT / "bundle"
# each folder of scripts/ and the folders that it may import; every folder may use ``run``
ARROWS = {
    "run": set(),
    "kspace": set(),
    "data": {"kspace"},
    "networks": {"kspace"},
    "requests": {"data", "kspace"},
    "phantoms": {"data", "kspace"},
    "evaluation": {"networks", "requests", "data", "kspace"},
    "training": {"networks", "requests", "data", "kspace"},
    "unlearning": {"training", "networks", "requests", "data", "kspace"},
    "audit": {"evaluation", "training", "networks", "requests", "data", "kspace"},
    "protocol": {"evaluation", "training", "networks", "requests", "data", "kspace"},
    "certificate": {"audit", "evaluation", "training", "networks", "requests", "data", "kspace"},
    "inference": {"networks", "data", "kspace"},
    "serving": {"inference", "networks", "data", "kspace"},
    "shipping": {"certificate", "evaluation", "inference", "networks", "data", "kspace"},
}
NAMES = re.compile(r"(?<![\w/.])scripts(?:\.[A-Za-z_]\w*)+")
WITH_NAMES = sorted(
    file
    for file in [ROOT / "README.md", *(BUNDLE / "configs").rglob("*"), *(BUNDLE / "docs").rglob("*")]
    if file.suffix in {".yaml", ".json", ".md"} and NAMES.search(file.read_text(encoding="utf-8"))
)


def modules() -> dict[str, ast.Module]:
    """Every module of ``scripts`` by name, parsed."""
    files = (ROOT / "scripts").rglob("*.py")
    names = {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in files}
    return {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in names.items()}


def imported(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """The modules of ``scripts`` that a tree imports, within functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & known
            yield from submodules
            if len(submodules) < len(node.names):
                yield node.module


def place(module: str) -> str:
    """The folder, or the module beside the folders, that a module belongs to."""
    return module.split(".")[1] if "." in module else ""


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    trees = modules()
    return {name: set(imported(tree, set(trees))) for name, tree in trees.items()}


def test_imports_follow_the_arrows(graph):
    wrong = [
        f"{name} imports {other}"
        for name, others in graph.items()
        for other in others
        if place(other) not in {place(name), "run", ""} | ARROWS.get(place(name), set())
    ]
    assert not wrong


def test_no_circle_of_modules(graph):
    TopologicalSorter({name: others - {name} for name, others in graph.items()}).prepare()


def test_no_import_is_hidden_from_the_running_program():
    hidden = [
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    assert not hidden


def test_every_folder_has_its_arrows():
    rooms = {path.relative_to(ROOT / "scripts").parts[0] for path in (ROOT / "scripts").rglob("*.py")}
    assert rooms - {"__init__.py"} == ARROWS.keys()


@pytest.mark.parametrize("file", WITH_NAMES, ids=lambda file: str(file.relative_to(ROOT)))
def test_names_of_code_resolve(file):
    for name in sorted(set(NAMES.findall(file.read_text(encoding="utf-8")))):
        resolve(name)


DOCUMENTS = [ROOT / "README.md", *(ROOT / ".github").glob("*.md"), *(BUNDLE / "docs").glob("*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_to_files(document):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_index_lists_every_document():
    index = (BUNDLE / "docs" / "index.md").read_text(encoding="utf-8")
    assert {path.name for path in (BUNDLE / "docs").glob("*.md")} - {"index.md"} <= set(
        re.findall(r"\((\w+\.md)\)", index)
    )


def resolve(name: str) -> object:
    """The module, class or function of a dotted name; raises where there is none."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:length]))
        except ModuleNotFoundError as error:
            if error.name is not None and not error.name.startswith("scripts"):
                return None  # it needs a package that is not installed, such as MONAI Deploy
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)
