"""The forget request: which scans a network has to forget, and what follows for every list of the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

from scripts.data.volumes import Volume

KEYS = ("request_id", "reason", "forget")


@dataclass(frozen=True)
class ForgetRequest:
    """What to forget, and why.

    Attributes:
        request_id: the controller's own reference.
        reason: free text.
        forget: selectors; a volume is selected where every field of any one selector matches. A value is
            compared as text, may be a glob (``*``, ``?``, ``[...]``), or a list of which one has to match.

    >>> request = ForgetRequest("r-1", "consent withdrawn", ({"patient_id": "P0*", "anatomy": ["knee", "hip"]},))
    >>> request.matches({"patient_id": "P017", "anatomy": "knee"}), request.matches({"patient_id": "P017"})
    (True, False)
    """

    request_id: str
    reason: str
    forget: tuple[Mapping, ...]

    @classmethod
    def load(cls, source: str | Path | Mapping) -> ForgetRequest:
        """Read a request from a YAML/JSON file or take it as a mapping.

        Raises:
            FileNotFoundError, ValueError: naming the file and the field.
        """
        where = "forget request" if isinstance(source, Mapping) else str(source)
        content = source if isinstance(source, Mapping) else _read(source)
        if not isinstance(content, Mapping):
            raise ValueError(f"{where}: expected a mapping with {', '.join(KEYS)}, found {type(content).__name__}")
        if set(content) != set(KEYS):
            missing, unknown = sorted(set(KEYS) - set(content)), sorted(map(str, set(content) - set(KEYS)))
            raise ValueError(f"{where}: expected the keys {', '.join(KEYS)}; missing {missing}, unknown {unknown}")
        selectors = content["forget"]
        valid = isinstance(selectors, Sequence) and not isinstance(selectors, str) and len(selectors) > 0
        if not valid or not all(isinstance(selector, Mapping) and selector for selector in selectors):
            raise ValueError(f"{where}: 'forget': expected a list of selectors (field: value), found {selectors!r}")
        return cls(str(content["request_id"]), str(content["reason"]), tuple(dict(s) for s in selectors))

    def matches(self, fields: Mapping[str, str]) -> bool:
        """Whether any selector selects a volume with these fields."""
        return any(all(_match(fields.get(key), value) for key, value in s.items()) for s in self.forget)

    def apply(self, volumes: Mapping[str, Sequence[Volume]]) -> dict[str, list[Volume]]:
        """Mark the selected volumes of each section with ``forget=True``.

        Raises:
            ValueError: a selector's field that no volume has; nothing or everything of ``training`` selected;
                a patient to be forgotten who is also in ``validation`` or ``test``.
        """
        self._check_fields(volume for section in volumes.values() for volume in section)
        marked = {
            section: [replace(volume, forget=self.matches(volume.fields)) for volume in items]
            for section, items in volumes.items()
        }
        training = marked.get("training", [])
        chosen = [volume for volume in training if volume.forget]
        if not chosen:
            raise ValueError(f"forget request {self.request_id}: selects none of {len(training)} training volumes")
        if len(chosen) == len(training):
            raise ValueError(
                f"forget request {self.request_id}: selects all {len(training)} training volumes; none left"
            )
        self._check_patients(chosen, marked)
        return marked

    def _check_fields(self, volumes: Iterable[Volume]) -> None:
        known = set().union(*(volume.fields for volume in volumes))
        unknown = sorted({key for selector in self.forget for key in selector} - known)
        if unknown:
            raise ValueError(
                f"forget request {self.request_id}: 'forget': no volume has the field {', '.join(map(repr, unknown))}; "
                f"expected one of {', '.join(sorted(known))}"
            )

    def _check_patients(self, chosen: Sequence[Volume], marked: Mapping[str, Sequence[Volume]]) -> None:
        patients = {volume.patient_id for volume in chosen} - {""}
        for section in ("validation", "test"):
            both = sorted({volume.patient_id for volume in marked.get(section, ())} & patients)
            if both:
                raise ValueError(
                    f"forget request {self.request_id}: patients to be forgotten are also in '{section}': "
                    f"{', '.join(both)}; a model cannot be tested on a patient that it has to forget"
                )


def _read(path: str | Path):
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such forget request")
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected YAML or JSON, found text that does not parse: {error}") from error


def _match(found: str | None, expected) -> bool:
    if isinstance(expected, (list, tuple)):
        return any(_match(found, value) for value in expected)
    return found is not None and fnmatchcase(found, str(expected))
