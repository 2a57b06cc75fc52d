"""Scans whose values were checked before: a second run does not read them again."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from scripts.data.digests import keep, kept, known_sha256, status
from scripts.data.plausibility import check_volume_values, sources
from scripts.data.volumes import Volume, open_volume
from scripts.run.files import file_sha256, json_sha256

RULES = ("header.py", "plausibility.py", "volumes.py")  # what decides whether a file passes


def check_once(volume: Volume) -> None:
    """Check a volume's values, see :func:`check_volume_values`, unless this file has passed and is unchanged.

    See :func:`scripts.data.digests.known_sha256` for what that trusts. Other rules, as after an update, and values that
    lie in other files are checked each time.

    Raises:
        ValueError: See :func:`check_volume_values`.
    """
    if has_passed(volume):
        return
    before = status(volume.path)
    check_volume_values(volume)
    with open_volume(volume.path) as file:
        elsewhere = [source for key in ("kspace", volume.target_key) if key for source in sources(file[key])]
    if not elsewhere:
        keep(volume.path, before, known_sha256(volume.path), passed=_rules())


def has_passed(volume: Volume) -> bool:
    """Whether this file has passed the check and is unchanged since."""
    entry = kept(volume.path)
    return entry is not None and entry.get("passed") == _rules()


@cache
def _rules() -> str:
    return json_sha256([file_sha256(Path(__file__).with_name(name)) for name in RULES])
