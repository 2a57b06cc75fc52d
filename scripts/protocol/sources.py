"""What the data of a study are, and whether training and test share subjects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from scripts.data.volumes import Volume
from scripts.requests import Cohorts

SOURCES = {
    "phantom": "Synthetic phantoms: drawn anatomy, simulated coils and noise. They show that the methods work as "
    "described; they say nothing about patients.",
    "semi-synthetic": "Semi-synthetic data: real magnitude images with simulated coils, phase and noise. Contrast and "
    "anatomy are real, the raw data are not.",
    "": "Data without a stated source, taken as measured raw data.",
}


def cohort_rows(data: Cohorts) -> list[dict[str, Any]]:
    """Volumes, slices and patients of each part of the data."""
    parts = {"retain set D_r": data.retain, "forget set D_f (also UA)": data.forget}
    parts["retain test set (BTA)"] = [volume for volume in data.test if not volume.forget]
    parts["forget test set (KTA)"] = [volume for volume in data.test if volume.forget]
    return [
        {
            "part": part,
            "volumes": len(volumes),
            "slices": sum(volume.num_slices for volume in volumes),
            "patients": len({volume.patient_id or volume.name for volume in volumes}),
            "source": ", ".join(sorted({volume.fields.get("source", "") or "not stated" for volume in volumes})),
        }
        for part, volumes in parts.items()
    ]


def source_notes(data: Cohorts) -> list[str]:
    """What kind of data this is, read from the files, and whether test and training share subjects."""
    volumes = [volume for section in data.sections.values() for volume in section]
    counts = Counter(volume.fields.get("source", "") for volume in volumes)
    notes = [
        f"{SOURCES.get(source, f'Source: {source}.')} ({n} of {len(volumes)} volumes)" for source, n in counts.items()
    ]
    shared = {_subject(volume) for volume in data.sections["training"]} & {_subject(volume) for volume in data.test}
    if shared := shared - {""}:
        notes.append(
            f"{len(shared)} {'subject is' if len(shared) == 1 else 'subjects are'} both in training and in test, "
            f"{_apart(slices_between(data.sections['training'], data.test))}: results on the test sets are not those "
            "on new subjects, and intervals over patients are too narrow."
        )
    return notes


def slices_between(training: Sequence[Volume], test: Sequence[Volume]) -> int | None:
    """The smallest number of slices that lie between a training and a test slice of one source image.

    Read from the attribute ``source_slices`` (``first-last``) that ``simulate`` writes; -1 where a slice is in both,
    None where a shared image does not state its slices.
    """
    smallest = None
    for one in training:
        for other in test:
            if not _subject(one) or _subject(one) != _subject(other):
                continue
            runs = [volume.fields.get("source_slices", "").split("-") for volume in (one, other)]
            if any(len(run) != 2 for run in runs):
                return None
            (first, last), (other_first, other_last) = ([int(end) for end in run] for run in runs)
            between = max(first - other_last, other_first - last, 0) - 1
            smallest = between if smallest is None else min(smallest, between)
    return smallest


def _apart(between: int | None) -> str:
    if between is None:
        return "in slices that the files do not state"
    return f"in disjoint slices with at least {between} others between them" if between >= 0 else "IN THE SAME SLICES"


def _subject(volume: Volume) -> str:
    return volume.fields.get("source_image", "") or volume.patient_id
