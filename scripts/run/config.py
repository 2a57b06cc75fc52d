"""What MONAI does not hand to the components of a bundle: the workflow and the configuration that is being run."""

from __future__ import annotations

import ast
import copy
import multiprocessing
import os
import re
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import monai.bundle
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS
from monai.utils import ensure_tuple

from scripts.run.files import file_sha256
from scripts.run.kinds import is_expression

STRICT = "MONAI_FAIL_ON_DUPLICATE_CONFIG"
MLFLOW: Mapping[str, Any] = DEFAULT_EXP_MGMT_SETTINGS["mlflow"]
# what MONAI adds to the configuration for --tracking mlflow
TRACKING = frozenset(MLFLOW["configs"]) - {"output_dir", "trainer", "validator", "evaluator"}


def is_tracked(config: Mapping[str, Any]) -> bool:
    """Whether MONAI added to a configuration what ``--tracking mlflow`` needs."""
    return set(config) >= TRACKING


def bundle_root() -> str:
    """Folder of the bundle that this package belongs to: the one that holds ``configs``."""
    home = Path(__file__).resolve().parents[2]
    return str(home if (home / "configs").is_dir() else home / "bundle")


def running_workflow() -> tuple[ConfigWorkflow, list[str] | None]:
    """The workflow being run, and the config files that it was made of; None where the call stack does not show them.

    MONAI gives components no access to either, so they are looked up on the call stack, here and nowhere else. The
    workflow is found by its type, whatever the variable is called; the files are the argument ``config_file`` of
    ``monai.bundle.run`` and ``create_workflow``. Callers must refuse what they cannot check without the files.

    Raises:
        RuntimeError: not called from a running bundle.
    """
    workflow = None
    for frame in _callers():
        if workflow is None:
            workflow = next((v for v in frame.f_locals.values() if isinstance(v, ConfigWorkflow)), None)
        elif frame.f_globals.get("__name__") == "monai.bundle.scripts" and frame.f_locals.get("config_file"):
            return workflow, [str(file) for file in ensure_tuple(frame.f_locals["config_file"])]
    if workflow is None:
        raise RuntimeError("no bundle is being run")
    return workflow, None


def running_workflows() -> list[ConfigWorkflow]:
    """All workflows that are being run, the innermost first: the verb ``protocol`` runs others."""
    return [v for frame in _callers() for v in frame.f_locals.values() if isinstance(v, ConfigWorkflow)]


def is_nested() -> bool:
    """Whether a run goes on within another one, such as the training of a prior within an unlearning."""
    return len({id(workflow) for workflow in running_workflows()}) > 1


def bundle_folder(workflow: ConfigWorkflow) -> str:
    """The folder that holds the ``configs`` of a workflow."""
    return str(Path(workflow.config_root_path).resolve().parent)


def running_config() -> dict[str, Any]:
    """The configuration being run, overrides applied, references unresolved.

    Raises:
        RuntimeError: not called from a running bundle.
    """
    config = copy.deepcopy(running_workflow()[0].parser.get())
    return {key: unquoted(value) for key, value in config.items()}


def quoted(value: Any) -> Any:
    """A value as MONAI's parser keeps it: where a text has a ``#``, which it takes for a separator, an expression.

    >>> quoted({"weights": "run#2/a.pt"})
    "${'weights': 'run\\\\x232/a.pt'}"
    >>> quoted("run 2")
    'run 2'
    """
    text = repr(value)
    if "#" not in text:
        return value
    for character in "#@%":
        text = text.replace(character, f"\\x{ord(character):x}")
    return f"${text}"


def unquoted(value: Any) -> Any:
    """What :func:`quoted` was given; any other value as it is.

    >>> unquoted(quoted("run#2")), unquoted("$@a + 'b'")
    ('run#2', "$@a + 'b'")
    """
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    try:
        plain = ast.literal_eval(value[1:])
    except (ValueError, SyntaxError):
        return value
    return plain if quoted(plain) == value else value


def typed_settings() -> dict[str, str]:
    """The settings on the command line as they were typed; {} where a program runs the bundle.

    A worker process has its parent's ``sys.argv``, a run within a run that of the outer one; neither was typed for it.

    Fire, which reads it for MONAI, ends a text at ``#``, makes a number of ``20240131`` and a list of ``smith,john``.
    """
    within = is_nested() or multiprocessing.parent_process() is not None
    if within or Path(sys.argv[0]).parts[-3:] != ("monai", "bundle", "__main__.py"):
        return {}
    words = sys.argv[1:]
    texts = {}
    for word, following in zip(words, [*words[1:], "-"], strict=True):
        if re.match(r"--?[A-Za-z_]", word):
            key, equals, text = word.lstrip("-").partition("=")
            if equals or not following.startswith("-"):
                texts[key.replace("-", "_")] = text if equals else following
    return texts


def command() -> dict[str, Any]:
    """How the running verb was called, so that it can be called again.

    Returns:
        ``files``: each config file, from the bundle's folder where it lies there, with its SHA-256; ``changes``: key of
        the configuration -> its value, where it is not what the files say.
    """
    files = config_files()
    declared = ConfigParser.load_config_files(files)
    changes = {k: v for k, v in running_config().items() if k in declared and k != "_meta_" and v != declared[k]}
    root, listed = Path(bundle_root()), []
    for path in (Path(file).resolve() for file in files):
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        listed.append({"file": name, "sha256": file_sha256(path)})
    return {"files": listed, "changes": changes}


def run_verb(verb: str, files: Sequence[str], **settings: Any) -> None:
    """Run a verb of the bundle within another one, without MONAI's warning that config files can run code.

    Args:
        verb: The verb.
        files: The project's own config files, or those that a checked record names by their hash.
        settings: Overrides; a path among them may hold ``#``, which MONAI's parser would take for its own.
    """
    plain = {key: value for key, value in settings.items() if isinstance(value, str) and not is_expression(value)}
    settings |= {key: quoted(value) for key, value in plain.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "parsing config_file", UserWarning)
        monai.bundle.run(verb, config_file=list(files), **settings)


def changed_settings(free: Collection[str]) -> list[str]:
    """Keys of the running configuration that differ from the project's own config files: a user may have changed by
    them what is measured.

    Args:
        free: The keys that may be changed without a doubt about the result.

    Returns:
        The keys, sorted; those of components as far as they differ, e.g. ``relearning#max_steps``.
    """
    workflow, files = running_workflow()
    configs = Path(bundle_root(), "configs").resolve()
    own = [file for file in files or [] if Path(file).resolve().is_relative_to(configs)]
    if files is None:
        own = [str(configs / f"{workflow.parser.get('verb')}.yaml")]
    declared = ConfigParser.load_config_files(own) if own else {}
    found, expected = (
        {key: _plain(value) for key, value in config.items() if key not in free and key != "_meta_"}
        for config in (workflow.parser.get(), declared)
    )
    return sorted({field for field, _, _ in differences(found, expected, lists=False)})


def _plain(value: Any) -> Any:
    """A value as both parsers write it: MONAI turns ``#`` within references into ``::``."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.replace("#", "::") if isinstance(value, str) else value


def declared_config(verb: str) -> dict[str, Any]:
    """What the config files of the running bundle declare, before overrides.

    Where the call stack does not show the files, as in a ``ConfigWorkflow`` that was made by hand, the verb's own file
    is taken: keys that only an overlay declares are then unknown, and refused.

    Args:
        verb: Name of the verb's file in ``configs``, without its suffix.

    Raises:
        ValueError: an overlay listed before the file of the verb, which would replace it; a key that stands twice.
        RuntimeError: there is no file to compare with.
    """
    files = config_files(verb)
    contents = [_each_key_once(file) for file in files]
    for file, content in zip(files[1:], contents[1:], strict=True):
        if "verb" in content:
            raise ValueError(
                f"config_file: expected the overlays after the file of the verb, found {files[0]} before {file}, "
                "which replaces what the overlay says"
            )
    return ConfigParser.load_config_files(files)


def config_files(verb: str | None = None) -> list[str]:
    """The config files of the running bundle; those of a workflow that was made by hand are its verb's own.

    Args:
        verb: The verb; None: the one that the configuration names.

    Raises:
        RuntimeError: there is no file to compare with.
    """
    workflow, files = running_workflow()
    if files is None:
        verb = verb or str(workflow.parser.get("verb"))
        files = [str(path) for path in sorted(Path(workflow.config_root_path).glob(f"{verb}.*"))]
        if len(files) != 1:
            raise RuntimeError(
                f"{workflow.config_root_path}: expected one config file of the verb {verb!r}, found {len(files)}; the "
                "override keys cannot be checked"
            )
    return files


def _each_key_once(file: str) -> dict[str, Any]:
    """The content of a config file; MONAI only warns of a key that stands twice, and takes the last one."""
    before = os.environ.get(STRICT)
    os.environ[STRICT] = "1"
    try:
        return dict(ConfigParser.load_config_file(file))
    except ValueError as error:
        if "Duplicate key" in str(error):
            raise ValueError(f"{file}: expected each key once, found {str(error)!r}") from error
        raise
    finally:
        del os.environ[STRICT]
        if before is not None:
            os.environ[STRICT] = before


def _callers() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def differences(found: Any, expected: Any, field: str = "", lists: bool = True) -> Iterator[tuple[str, Any, Any]]:
    """The fields in which two nested mappings, and lists of one length if asked for, differ, with both values.

    Example:
        >>> list(differences({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}))
        [('a#b#1', 2, 3)]
    """
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        pairs = [(key, found.get(key), expected.get(key)) for key in sorted({*found, *expected}, key=str)]
    elif lists and isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        pairs = [(index, *values) for index, values in enumerate(zip(found, expected, strict=True))]
    else:
        if found != expected:
            yield field, found, expected
        return
    for key, one, other in pairs:
        yield from differences(one, other, f"{field}#{key}".lstrip("#"), lists)
