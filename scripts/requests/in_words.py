"""A forget request in words: what it would do, before anything runs, and what became of it, from the run's record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scripts.data.volumes import Volume
from scripts.requests.cohorts import Cohorts, kind_of
from scripts.requests.selectors import Selection, values
from scripts.run import command_of, tell
from scripts.run.config import running_config

Facts = Mapping[str, Any]
LISTED = 50
GOES = {"kind": "all of its anatomy", "contrast": "all of its contrast", "member": "one of a kind that stays"}


def describe_request(data: Cohorts) -> str:
    """What a request selects and what else of these patients and kinds stays, as lines of Markdown.

    Args:
        data: The datalist, split by the request.

    Raises:
        ValueError: there is no request.
    """
    if data.request is None:
        raise ValueError("preview: expected a forget request, found none")
    parts = {volume.name: GOES[part] for part, volumes in data.by_part().items() for volume in volumes}
    rows = [f"| {v.name} | {v.patient_id or 'not named'} | {_kind(v)} | {parts[v.name]} |" for v in data.forget]
    if len(rows) > LISTED:
        rows[LISTED:] = [f"| … {len(rows) - LISTED} more | | | |"]
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
        *rows,
        "",
        *_what_stays(data),
    ]
    return "\n".join(lines)


def conclude_preview(output_dir: str) -> None:
    """Say that nothing was changed, and how the request is carried out."""
    config = running_config()
    given = {key: config.get(key) for key in ("datalist", "forget_request")}
    given = {key: value for key, value in given.items() if isinstance(value, str) and not value.startswith("$")}
    tell(
        f"Nothing was changed; unlearn will write {output_dir}.",
        None,
        [("Next", command_of("unlearn", **given) + " --weights ORIGINAL.pt" * bool(given))],
    )


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


def _what_stays(data: Cohorts) -> list[str]:
    patients = {volume.patient_id for volume in data.forget} - {""}
    left = [volume.name for volume in data.retain if volume.patient_id in patients]
    nameless = sum(not volume.patient_id for volume in data.forget)
    kinds = Counter(_kind(volume) for volume in data.retain)
    alike = sorted({_kind(volume) for volume in data.by_part().get("member", [])})
    lines = [f"Other scans of these patients that stay: {_list(left) or 'none'}."]
    if nameless:
        lines.append(f"{nameless} of the scans name no patient: others of the same person cannot be found.")
    if data.erased:
        erased = _list(f"{name} ({by})" for name, by in data.erased.items())
        lines.append(f"Left out, since an earlier request erased them: {erased}.")
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
    return ", ".join([*names[:LISTED], *([f"… ({len(names)} in all)"] if len(names) > LISTED else [])])


def describe_outcome(record: Facts) -> str:
    """What a finished unlearning did, in a sentence that a person can repeat.

    >>> scans = {"forgotten": {"scans": 10, "anatomies": ["knee"]}, "retained": {"scans": 60, "anatomies": ["brain"]}}
    >>> facts = {"scans": scans, "forgetting": "exact", "data": {"retain": {"volumes": [{}] * 6}}, "method": "restart",
    ...          "cost": {"backward_slices": 378}, "training_passes": 3780, "results": None}
    >>> print(describe_outcome(facts))
    Forgot 10 knee scans exactly (restarted from a clean prior, 6 of 60 retained scans, 10 % of the passes).
    """
    gone, stayed = record["scans"]["forgotten"], record["scans"]["retained"]
    used = len(record["data"].get("retain", {"volumes": []})["volumes"])
    exact = record["forgetting"] == "exact"
    how = "restarted from a clean prior" if exact else f"by {record['method']}, which changes the original weights"
    kind = f"{gone['anatomies'][0]} " if len(gone["anatomies"]) == 1 and gone["anatomies"][0] else ""
    said = (
        f"Forgot {gone['scans']} {kind}scan{'' if gone['scans'] == 1 else 's'} "
        f"{'exactly' if exact else 'approximately'} ({how}, {used} of {stayed['scans']} retained scans, "
        f"{100 * passes_share(record):.3g} % of the passes)."
    )
    kept = retained_psnr(record)
    if kept:
        one = len(stayed["anatomies"]) == 1 and stayed["anatomies"][0] and stayed["anatomies"] != gone["anatomies"]
        name = stayed["anatomies"][0].capitalize() if one else "Retained test scans"
        before = f", original {kept['original']:.1f} dB" if "original" in kept else ""
        said += f" {name}: {kept['unlearned']:.1f} dB{before}."
    return said


def passes_share(record: Facts) -> float:
    """The backward passes of a run as a share of one training on the scans that stay."""
    return float(record["cost"]["backward_slices"] / record["training_passes"])


def retained_psnr(record: Facts) -> dict[str, float]:
    """Mean PSNR of each model on the retained test scans in dB; nothing where it was not measured."""
    results = record.get("results") or {}
    found = {model: cohorts["BTA"]["psnr"]["mean"] for model, cohorts in results.items() if "BTA" in cohorts}
    return found if "unlearned" in found else {}
