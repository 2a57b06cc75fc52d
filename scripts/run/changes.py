"""What of a running configuration is not the project's: by it a user may have changed what is measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from scripts.run.config import bundle_root, running_workflow


def changed_settings(free: Collection[str]) -> list[str]:
    """Keys of the running configuration that differ from the project's config files and overlays, but for some.

    Args:
        free: The keys that a user may change without a doubt about the result.

    Returns:
        The keys, sorted; those of components as far as they differ, e.g. ``relearning#max_steps``.
    """
    workflow, files = running_workflow()
    configs = Path(bundle_root(), "configs")
    own = [file for file in files or [] if Path(file).resolve().is_relative_to(configs.resolve())]
    if files is None:
        own = [str(configs / f"{workflow.parser.get('verb')}.yaml")]
    declared = ConfigParser.load_config_files(own) if own else {}
    found = {key: value for key, value in workflow.parser.get().items() if key not in free and key != "_meta_"}
    return sorted(_different(found, {key: value for key, value in declared.items() if key not in free}, ""))


def _different(found: Mapping[str, Any], declared: Mapping[str, Any], prefix: str) -> list[str]:
    names = []
    for key in {*found, *declared}:
        one, other = (_plain(part.get(key)) for part in (found, declared))
        if one == other:
            continue
        nested = isinstance(one, Mapping) and isinstance(other, Mapping)
        names += _different(one, other, f"{prefix}{key}#") if nested else [f"{prefix}{key}"]
    return names


def _plain(value: Any) -> Any:
    """A value as both parsers write it: MONAI turns ``#`` within references into ``::``."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.replace("#", "::") if isinstance(value, str) else value
