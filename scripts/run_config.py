"""What MONAI does not hand to the components of a bundle: the configuration that is being run."""

from __future__ import annotations

import copy
import difflib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from monai.bundle import ConfigParser, ConfigWorkflow

RUN_ARGUMENTS = frozenset(inspect.signature(ConfigWorkflow.__init__).parameters) - {"self", "override"}


def bundle_root() -> str:
    """Folder of the bundle that this package belongs to: the one that holds ``configs``."""
    home = Path(__file__).resolve().parent.parent
    return str(home if (home / "configs").is_dir() else home / "bundle")


def running_config() -> dict:
    """The configuration being run, overrides applied, references unresolved.

    MONAI gives components no access to their parser, so the calling workflow is looked up on the stack.

    Raises:
        RuntimeError: not called from a running bundle.
    """
    for frame in _callers():
        workflow = frame.f_locals.get("self")
        if isinstance(workflow, ConfigWorkflow):
            return copy.deepcopy(workflow.parser.get())
    raise RuntimeError("no bundle is being run")


def check_overrides() -> None:
    """Refuse override keys that the config files do not declare; MONAI would add them silently.

    A key is known where its parent is: ``network#num_cascades`` needs ``network``, and what a component
    does not know it refuses itself.

    Raises:
        ValueError: naming each unknown key and the nearest known one.
    """
    for frame in _callers():
        if frame.f_code.co_name == "create_workflow" and "_args" in frame.f_locals:
            files, overrides = frame.f_locals["config_file"], set(frame.f_locals["_args"]) - RUN_ARGUMENTS
            unknown_override_keys(ConfigParser.load_config_files(files), overrides)
            return


def unknown_override_keys(declared: dict, overrides: set[str]) -> None:
    """Raise ValueError where ``overrides`` holds a key whose place is missing in ``declared``.

    >>> unknown_override_keys({"retain_fraction": 0.1}, {"retain_fracton"})
    Traceback (most recent call last):
    ...
    ValueError: override key 'retain_fracton': not in the configuration; did you mean 'retain_fraction'?
    """
    parser = ConfigParser({**declared, "_meta_": {}})
    problems = []
    for key in sorted(overrides):
        parent, _, _ = key.replace("::", "#").rpartition("#")
        if (parent or key) not in parser:
            near = difflib.get_close_matches((parent or key).partition("#")[0], map(str, declared), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(map(str, declared))}"
            problems.append(f"override key {key!r}: not in the configuration; {hint}")
    if problems:
        raise ValueError("; ".join(problems))


def _callers() -> Iterator[FrameType]:
    frame = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
