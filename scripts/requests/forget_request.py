"""The forget request: which scans a network has to forget, and what follows for every list of the data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scripts.data.volumes import Volume
from scripts.requests.request_file import read_as_text
from scripts.requests.selectors import Selection, Selector

KEYS = ("request_id", "reason", "forget")
KEEP = "keep_other_scans"
LISTED = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ForgetRequest:
    """What to forget, and why.

    Attributes:
        request_id: The controller's own reference.
        reason: Free text.
        forget: Selectors; a volume is selected where every field of any one selector matches. A value is
            compared as text, or is a glob (``*``, ``?``, ``[...]``) where no volume has it exactly; of a list of values
            one has to match.
        keep_other_scans: Whether training scans of a selected patient that the selectors leave out may stay.
        source: File of the request, for errors.
    """

    request_id: str
    reason: str
    forget: tuple[Selector, ...]
    keep_other_scans: bool = False
    source: str = field(default="forget request", compare=False)

    @classmethod
    def load(cls, source: str | Path | Mapping) -> ForgetRequest:
        """Read a request from a YAML/JSON file, or take it as a mapping, as it stands in a configuration.

        Values of a file are text as written. Those of a mapping were read by someone else: text is taken, and what may
        have been written in several ways (``yes``, ``10``, a date, nothing) is refused.

        Raises:
            FileNotFoundError, ValueError: naming the file, the field, what was found and what was expected.
        """
        where = "forget request" if isinstance(source, Mapping) else str(source)
        content = source if isinstance(source, Mapping) else read_as_text(source)
        if not isinstance(content, Mapping):
            raise ValueError(f"{where}: expected a mapping with {', '.join(KEYS)}, found {type(content).__name__}")
        if not set(KEYS) <= set(content) <= {*KEYS, KEEP}:
            missing, unknown = sorted(set(KEYS) - set(content)), sorted(map(str, set(content) - {*KEYS, KEEP}))
            raise ValueError(
                f"{where}: expected the keys {', '.join(KEYS)} and perhaps {KEEP}; missing {missing}, unknown {unknown}"
            )
        texts = {key: _text(content[key], f"{where}: {key!r}") for key in ("request_id", "reason")}
        if not texts["request_id"].strip() or not texts["request_id"].isprintable():
            raise ValueError(f"{where}: 'request_id': expected one line of text, found {texts['request_id']!r}")
        keep = content.get(KEEP, False)
        if not isinstance(keep, bool) and keep not in ("true", "false"):
            raise ValueError(f"{where}: {KEEP!r}: expected true or false, found {keep!r}")
        return cls(**texts, forget=_selectors(content["forget"], where), keep_other_scans=keep in (True, "true"),
                   source=where)  # fmt: skip

    @classmethod
    def join(cls, requests: Sequence[ForgetRequest]) -> ForgetRequest:
        """Several requests as one that selects what any of them does; a single one as it is."""
        if len(requests) == 1:
            return requests[0]
        return cls(
            ", ".join(request.request_id for request in requests),
            "; ".join(request.reason for request in requests),
            tuple(selector for request in requests for selector in request.forget),
            any(request.keep_other_scans for request in requests),
            ", ".join(dict.fromkeys(request.source for request in requests)),
        )

    def selection(self, sections: Mapping[str, Sequence[Volume]], repeated: bool = False) -> Selection:
        """The selectors, applied to the scans of a datalist."""
        return Selection(self.forget, [v for volumes in sections.values() for v in volumes], self._where, repeated)

    def apply(self, sections: Mapping[str, Sequence[Volume]], repeated: bool = False) -> dict[str, list[Volume]]:
        """Mark the selected volumes of each section with ``forget=True``.

        Args:
            sections: The volumes of each section of the datalist.
            repeated: Whether the request was carried out before: then its scans may have been deleted since.

        Raises:
            ValueError: a field that no volume has; a selector or one of its values that selects no scan at all;
                everything of ``training`` selected; other scans of a selected patient that would stay.
        """
        selection = self.selection(sections, repeated)
        training = sections.get("training", [])
        if not repeated:
            others = [v for name, volumes in sections.items() if name != "training" for v in volumes]
            selection.check(training, others)
            if not any(selection.selects(volume) for volume in training):
                logger.warning("%s: selects no training scan, only scans of validation or test", self._where)
        marked = {name: [replace(v, forget=selection.selects(v)) for v in items] for name, items in sections.items()}
        if all(volume.forget for volume in marked.get("training", [])):
            raise ValueError(f"{self._where}: selects all {len(training)} training volumes; none left")
        self._check_patients(marked)
        return marked

    @property
    def _where(self) -> str:
        return f"{self.source}: request {self.request_id!r}"

    def _check_patients(self, marked: Mapping[str, Sequence[Volume]]) -> None:
        patients = {volume.patient_id for volume in marked["training"] if volume.forget} - {""}
        for section, volumes in marked.items():
            same = [volume for volume in volumes if volume.patient_id in patients]
            if section != "training" and same:
                both = ", ".join(sorted({volume.patient_id for volume in same}))
                raise ValueError(
                    f"{self._where}: patients to be forgotten are also in {section!r}: {both}; "
                    "a model cannot be tested on a patient that it has to forget"
                )
            staying = [volume for volume in same if not volume.forget]
            if staying and not self.keep_other_scans:
                named = ", ".join(f"{v.name} of {v.patient_id}" for v in staying[:LISTED])
                more = f", … ({len(staying)} in all)" if len(staying) > LISTED else ""
                raise ValueError(
                    f"{self._where}: other scans of selected patients would stay in {section!r} and be trained on: "
                    f"{named}{more}; select the patients (patient_id), or add '{KEEP}: true' where that is meant"
                )


def _selectors(content: Any, where: str) -> tuple[Selector, ...]:
    if not isinstance(content, Sequence) or isinstance(content, str) or not content:
        raise ValueError(f"{where}: 'forget': expected a list of selectors (field: value), found {content!r}")
    selectors: list[Selector] = []
    for number, entry in enumerate(content, start=1):
        if not isinstance(entry, Mapping) or not entry:
            raise ValueError(
                f"{where}: 'forget': expected a list of selectors (field: value), found {entry!r} as number {number}"
            )
        place = f"{where}: 'forget', selector {number}"
        selector = {_text(key, f"{place}, a field's name"): _stated(value, f"{place}, field {key!r}")
                    for key, value in entry.items()}  # fmt: skip
        if len(selector) < len(entry):
            raise ValueError(f"{place}: expected each field once, found {list(entry)}")
        if selector in selectors:
            raise ValueError(f"{place}: expected each selector once, found {dict(entry)!r} again")
        selectors.append(selector)
    return tuple(selectors)


def _stated(value: Any, place: str) -> str | list[str]:
    if not isinstance(value, (list, tuple)):
        if value == "":
            raise ValueError(f"{place}: expected a value, found empty text")
        return _text(value, place)
    texts = [_text(one, place) for one in value]
    if not texts or "" in texts or len(set(texts)) < len(texts):
        raise ValueError(f"{place}: expected a list of values, each once, none empty, found {value!r}")
    return texts


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise ValueError(
            f"{place}: expected text, found {value!r} ({type(value).__name__}), which may have been written in several "
            "ways; put it in quotes"
        )
    return value
