"""What became of a request, in sentences that a person can repeat, from the record of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Facts = Mapping[str, Any]


def describe_outcome(record: Facts) -> str:
    """What a finished unlearning did.

    >>> scans = {"forgotten": {"scans": 10, "anatomies": ["knee"]}, "retained": {"scans": 60, "anatomies": ["brain"]}}
    >>> facts = {"scans": scans, "forgetting": "exact", "data": {"retain": {"volumes": [{}] * 6}}, "method": "restart",
    ...          "cost": {"backward_slices": 378}, "training_passes": 3780, "results": None}
    >>> print(describe_outcome(facts))
    Forgot 10 knee scans exactly (restarted from a clean prior, 6 of 60 retained scans, 10 % of the passes).
    """
    scans = record["scans"]
    used = len(record["data"].get("retain", {"volumes": []})["volumes"])
    exact = record["forgetting"] == "exact"
    how = "restarted from a clean prior" if exact else f"by {record['method']}, which changes the original weights"
    said = (
        f"Forgot {described(scans['forgotten'])} {'exactly' if exact else 'approximately'} ({how}, {used} of "
        f"{scans['retained']['scans']} retained scans, {100 * passes_share(record):.3g} % of the passes)."
    )
    kept = retained_psnr(record)
    if kept:
        before = f", original {kept['original']:.1f} dB" if "original" in kept else ""
        said += f" {kept_name(record)}: {kept['unlearned']:.1f} dB{before}."
    return said


def described(scans: Facts) -> str:
    """How many scans, and of what where they are all of one anatomy.

    >>> described({"scans": 1, "anatomies": ["knee"]}), described({"scans": 2, "anatomies": ["brain", "knee"]})
    ('1 knee scan', '2 scans')
    """
    kind = f"{scans['anatomies'][0]} " if len(scans["anatomies"]) == 1 and scans["anatomies"][0] else ""
    return f"{scans['scans']} {kind}scan{'' if scans['scans'] == 1 else 's'}"


def kept_name(record: Facts) -> str:
    """What stays, by its anatomy where that is one and does not go as well, e.g. ``Brain``."""
    kept, gone = (record["scans"][part]["anatomies"] for part in ("retained", "forgotten"))
    return kept[0].capitalize() if len(kept) == 1 and kept[0] and kept != gone else "Retained test scans"


def passes_share(record: Facts) -> float:
    """The backward passes of a run as a share of one training on the scans that stay."""
    return float(record["cost"]["backward_slices"] / record["training_passes"])


def retained_psnr(record: Facts) -> dict[str, float]:
    """Mean PSNR of each model on the retained test scans in dB; nothing where it was not measured."""
    results = record.get("results") or {}
    found = {model: cohorts["BTA"]["psnr"]["mean"] for model, cohorts in results.items() if "BTA" in cohorts}
    return found if "unlearned" in found else {}
