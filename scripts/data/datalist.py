"""The datalist: which volumes train, validate and test."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from scripts.data.volumes import Volume, inspect_volume

SECTIONS = ("training", "validation", "test")
logger = logging.getLogger(__name__)


def load_datalist(path: str | Path) -> dict[str, list[Volume]]:
    """Read a MONAI/Decathlon-style JSON datalist and inspect every volume in it.

    Args:
        path: JSON with the lists ``training``, ``validation``, ``test`` (each may be missing) of
            ``{"kspace": path relative to the datalist, ...}``; other keys are the volume's fields.

    Returns:
        Section name -> volumes, in the datalist's order.

    Raises:
        FileNotFoundError, ValueError: naming file, section and entry, what was found and what was expected.
    """
    content = _read_json(path)
    sections = {section: _entries(content, section, path) for section in SECTIONS}
    if not any(sections.values()):
        raise ValueError(f"{path}: expected volumes in 'training', 'validation' or 'test', found none")
    _refuse_repeats(sections, path)
    root = Path(path).parent
    volumes = {
        section: [
            inspect_volume(root / entry["kspace"], name=entry["kspace"], fields=_fields(entry)) for entry in entries
        ]
        for section, entries in sections.items()
    }
    _log_crop_sources(volumes, path)
    return volumes


def _read_json(path: str | Path) -> Mapping:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such datalist")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a JSON datalist, found text that does not parse: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping with {', '.join(SECTIONS)}, found {type(content).__name__}")
    return content


def _entries(content: Mapping, section: str, path: str | Path) -> list[Mapping]:
    entries = content.get(section, [])
    if not isinstance(entries, list):
        raise ValueError(f"{path}: '{section}': expected a list, found {type(entries).__name__}")
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("kspace"), str):
            raise ValueError(f"{path}: '{section}' entry {index}: expected a mapping with 'kspace', found {entry!r}")
        if not (Path(path).parent / entry["kspace"]).is_file():
            raise FileNotFoundError(f"{path}: '{section}' entry {index}: 'kspace': no such file: {entry['kspace']}")
    return entries


def _refuse_repeats(sections: Mapping[str, list[Mapping]], path: str | Path) -> None:
    seen: dict[Path, str] = {}
    for section, entries in sections.items():
        for entry in entries:
            file = (Path(path).parent / entry["kspace"]).resolve()
            if file in seen:
                raise ValueError(
                    f"{path}: 'kspace': {entry['kspace']} is listed twice, in {seen[file]} and in {section}"
                )
            seen[file] = section


def _log_crop_sources(volumes: Mapping[str, list[Volume]], path: str | Path) -> None:
    sources = Counter(volume.crop_source for section in volumes.values() for volume in section)
    for source, of in (("target", "stored reference image"), ("matrix", "k-space, for want of a reference image")):
        if sources[source]:
            logger.info(
                "%s: %d volumes name no crop size in a header; that of the %s is used", path, sources[source], of
            )


def _fields(entry: Mapping) -> dict[str, str]:
    return {key: str(value) for key, value in entry.items()}
