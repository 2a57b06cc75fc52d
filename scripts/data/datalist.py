"""The datalist: which volumes train, validate and test."""

from __future__ import annotations

import difflib
import json
import logging
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.data.identity import refuse_same_scans
from scripts.data.plausibility import refuse_copies, refuse_repacked, refuse_similar_patients
from scripts.data.volumes import Volume, inspect_volume
from scripts.run.settings import SECTIONS

logger = logging.getLogger(__name__)


def load_datalist(path: str | Path) -> dict[str, list[Volume]]:
    """Read a MONAI/Decathlon-style JSON datalist and inspect every volume in it.

    Args:
        path: JSON with the lists ``training``, ``validation``, ``test`` (each may be missing) of
            ``{"kspace": path relative to the datalist, ...}``; other keys are the volume's fields.

    Returns:
        Section name -> volumes, in the datalist's order.

    Raises:
        FileNotFoundError, ValueError: naming file, section and entry, what was found and what was expected; or one scan
            as two patients', see :func:`scripts.data.identity.refuse_same_scans`.
    """
    volumes = listed_volumes(path)
    every = [volume for part in volumes.values() for volume in part]
    names = [f"{volume.name} in {section}" for section, part in volumes.items() for volume in part]
    refuse_copies([Path(volume.path) for volume in every], names, path)
    refuse_similar_patients({volume.patient_id: volume.name for volume in every if volume.patient_id}, path)
    refuse_repacked(every, path)
    refuse_same_scans(every, path)
    _log_crop_sources(volumes, path)
    return volumes


def listed_volumes(path: str | Path) -> dict[str, list[Volume]]:
    """The volumes of a datalist, as :func:`load_datalist` gives them, from the list and the headers alone.

    Raises:
        FileNotFoundError, ValueError: naming file, section and entry, what was found and what was expected.
    """
    content = _read_json(path)
    _refuse_unknown_sections(content, path)
    sections = {section: _entries(content, section, path) for section in SECTIONS}
    if not any(sections.values()):
        raise ValueError(f"{path}: expected volumes in 'training', 'validation' or 'test', found none")
    root = Path(path).parent
    return {
        section: [
            inspect_volume(root / entry["kspace"], name=entry["kspace"], fields=_fields(entry, path))
            for entry in entries
        ]
        for section, entries in sections.items()
    }


def _read_json(path: str | Path) -> Mapping:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such datalist")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected a JSON datalist, found text that does not parse: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping with {', '.join(SECTIONS)}, found {type(content).__name__}")
    return content


def _entries(content: Mapping, section: str, path: str | Path) -> list[Mapping]:
    entries = content.get(section, [])
    if not isinstance(entries, list):
        raise ValueError(f"{path}: {section!r}: expected a list, found {type(entries).__name__}")
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("kspace"), str):
            raise ValueError(f"{path}: {section!r} entry {index}: expected a mapping with 'kspace', found {entry!r}")
        file = Path(path).parent / entry["kspace"]
        if not file.is_file():
            what = "a link that leads nowhere" if file.is_symlink() else "a folder" if file.is_dir() else "no such file"
            raise FileNotFoundError(f"{path}: {section!r} entry {index}: 'kspace': {what}: {entry['kspace']}")
    return entries


def _refuse_unknown_sections(content: Mapping, path: str | Path) -> None:
    """Lists of volumes under a key that is read by nothing, such as a section that was misspelt."""
    for key, value in content.items():
        near = difflib.get_close_matches(str(key).lower(), SECTIONS, n=1, cutoff=0.5)
        if key not in SECTIONS and isinstance(value, list) and (near or any(isinstance(v, Mapping) for v in value)):
            raise ValueError(
                f"{path}: {key!r}: expected the sections {', '.join(SECTIONS)}, found a list under another name"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )


def _log_crop_sources(volumes: Mapping[str, list[Volume]], path: str | Path) -> None:
    sources = Counter(volume.crop_source for section in volumes.values() for volume in section)
    for source, of in (("target", "stored reference image"), ("matrix", "k-space, for want of a reference image")):
        if sources[source]:
            logger.info(
                "%s: %d volumes name no crop size in a header; that of the %s is used", path, sources[source], of
            )


def _fields(entry: Mapping, path: str | Path) -> dict[str, str]:
    for key, value in entry.items():
        text = isinstance(value, str) and value.strip() != "" and value.isprintable()
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not (text or number):
            raise ValueError(f"{path}: {entry['kspace']}: {key!r}: expected a text or a number, found {value!r}")
    return {key: str(value) for key, value in entry.items()}


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"the key {twice[0]!r} twice in one mapping")
    return dict(pairs)
