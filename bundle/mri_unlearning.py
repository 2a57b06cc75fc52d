"""The package ``scripts`` that belongs to this bundle, and no other of that name.

A working directory with a ``scripts`` package of its own stands before this project's on Python's path. The configs
take the package from here, so that such a run is refused instead of running another project's code.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent
OWN = (ROOT if (ROOT / "scripts").is_dir() else ROOT.parent) / "scripts"  # within a shipped bundle, or beside it


def own_scripts() -> ModuleType:
    """Import the package.

    Raises:
        ImportError: Python finds another package named ``scripts`` first; with both paths.
    """
    spec = importlib.util.find_spec("scripts")
    found = Path(spec.origin).resolve().parent if spec and spec.origin else None
    if found != OWN:
        sys.excepthook = lambda kind, error, traceback: print(f"\nError: {refusal}", file=sys.stderr)
        refusal = (
            f"'scripts': expected the package {OWN}, found {found}, which stands before it on Python's path; run from "
            "another working directory, or rename that folder"
        )
        raise ImportError(refusal)
    return importlib.import_module("scripts")


scripts = own_scripts()
scripts.run.errors.install()  # whatever fails from here on is told in one paragraph
