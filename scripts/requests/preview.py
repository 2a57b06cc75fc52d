"""What a forget request would do, in words, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from scripts.data.volumes import Volume
from scripts.requests.cohorts import Cohorts, kind_of
from scripts.requests.selectors import Selection, values

LISTED = 50
GOES = {"kind": "all of its anatomy", "contrast": "all of its contrast", "member": "one of a kind that stays"}


def describe_request(data: Cohorts) -> str:
    """Say what a request selects and what else of these patients and kinds stays.

    Args:
        data: The datalist, split by the request.

    Returns:
        Lines of Markdown.

    Raises:
        ValueError: there is no request.
    """
    if data.request is None:
        raise ValueError("preview: expected a forget request, found none")
    lines = [
        f"# Request {data.request.request_id!r}: {data.request.reason or 'no reason stated'}",
        f"From {data.request.source}, for {data.datalist}.",
        "",
        *_selectors(data.request.selection(data.sections)),
        "",
        f"To be forgotten: {_count(data.forget)}.",
        "",
        "| scan | patient | kind | goes as |",
        "| --- | --- | --- | --- |",
        *_scans(data),
        "",
        *_what_stays(data),
    ]
    return "\n".join(lines)


def _selectors(selection: Selection) -> list[str]:
    """Each value with what it means, where that is not the value itself."""
    lines = []
    for number, (selector, meant) in enumerate(zip(selection.selectors, selection.meant, strict=True), start=1):
        for key, stated in selector.items():
            for value in values(stated):
                texts = sorted(meant[key][value])
                how = "" if texts == [value] else f", as a pattern: {_list(map(repr, texts))}"
                lines.append(f"- selector {number}: {key} = {value!r}{how}")
    return lines


def _scans(data: Cohorts) -> list[str]:
    parts = {volume.name: part for part, volumes in data.by_part().items() for volume in volumes}
    rows = []
    for volume in data.forget[:LISTED]:
        part = parts[volume.name]
        patient = volume.patient_id or "not named"
        rows.append(f"| {volume.name} | {patient} | {_kind(volume)} | {GOES[part]} |")
    if len(data.forget) > LISTED:
        rows.append(f"| … {len(data.forget) - LISTED} more | | | |")
    return rows


def _what_stays(data: Cohorts) -> list[str]:
    patients = {volume.patient_id for volume in data.forget} - {""}
    left = [volume for volume in data.retain if volume.patient_id in patients]
    nameless = sum(not volume.patient_id for volume in data.forget)
    kinds = Counter(_kind(volume) for volume in data.retain)
    alike = sorted({_kind(volume) for volume in data.by_part().get("member", [])})
    erased = [f"{name} ({by})" for name, by in data.erased.items()]
    lines = [f"Other scans of these patients that stay: {_list(volume.name for volume in left) or 'none'}."]
    if nameless:
        lines.append(f"{nameless} of the scans name no patient: others of the same person cannot be found.")
    if erased:
        lines.append(f"Left out, since an earlier request erased them: {_list(erased)}.")
    return [
        *lines,
        f"Of the kinds of these scans stay: {_list(f'{kinds[kind]} scans of {kind}' for kind in alike) or 'none'}.",
        f"Retain set: {_count(data.retain)}.",
        f"Test set: {_count([v for v in data.test if not v.forget])} of what stays, "
        f"{_count([v for v in data.test if v.forget])} that the request selects.",
    ]


def _kind(volume: Volume) -> str:
    return " ".join(text for text in kind_of(volume) if text) or "unstated kind"


def _count(volumes: Sequence[Volume]) -> str:
    patients = len({volume.patient_id or volume.name for volume in volumes})
    return f"{len(volumes)} scans of {patients} patients, {sum(volume.num_slices for volume in volumes)} slices"


def _list(names: Iterable[str]) -> str:
    names = list(names)
    more = [f"… ({len(names)} in all)"] if len(names) > LISTED else []
    return ", ".join([*names[:LISTED], *more])
