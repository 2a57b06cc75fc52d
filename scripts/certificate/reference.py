"""The project's own gates and settings of the measures, by which a verdict is believed, whatever else was declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.audit.acquisitions import other_masks
from scripts.audit.experiment import plain_settings
from scripts.audit.statistics import Statistics
from scripts.kspace.masks import ColumnMask, EquispacedFractionMask, EquispacedMask, RandomMask
from scripts.run.allowed import build_allowed

MASKS = {f"scripts.data.{mask.__name__}": mask for mask in (RandomMask, EquispacedMask, EquispacedFractionMask)}
EVALUATION_SEED = 0  # of the masks, as in audit.yaml
LEARNING_RATE = 1e-3  # of further training: a lower one brings nothing back
STATISTICS = Statistics()
WHERE: dict[str, float | bool] = {"if_measured": True}
EXACT: dict[str, float | bool] = {"at_least": 0.05, **WHERE}  # an error rate
GATES = tuple(  # those of audit.yaml; who lays down others tells the verifier which
    {"name": name, "guards": guards, "measure": measure, **limit}
    for name, guards, measure, limit in (
        ("retain quality", "retain damage", "oracle_gap/BTA/psnr/below", {"at_least": -1.0}),
        ("retain quality beside the original", "retain damage", "original_gap/BTA/psnr/gap", {"at_least": -1.0}),
        ("retain structure", "retain damage", "oracle_gap/BTA/ssim/below", {"at_least": -0.03}),
        ("enhancement", "retain damage", "hallucination/enhancement", {"at_most": 1.05}),
        ("forget test set not known", "under-forgetting", "oracle_gap/KTA/psnr/above", {"at_most": 1.0}),
        ("forget training set not known", "under-forgetting", "oracle_gap/UA/psnr/above", {"at_most": 1.0}),
        ("forget test structure not known", "under-forgetting", "oracle_gap/KTA/ssim/above", {"at_most": 0.06}),
        ("forget training structure not known", "under-forgetting", "oracle_gap/UA/ssim/above", {"at_most": 0.06}),
        ("no membership signal", "under-forgetting", "membership/gain/above", {"at_most": 0.25}),
        ("forget test set not ruined", "over-forgetting", "oracle_gap/KTA/psnr/below", {"at_least": -1.0}),
        ("forget training set not ruined", "over-forgetting", "oracle_gap/UA/psnr/below", {"at_least": -1.0}),
        ("no inverse membership signal", "over-forgetting", "membership/gain/below", {"at_least": -0.25}),
        ("forget test set does not resurface", "suppression", "resurfacing/KTA/psnr/rise", {"at_most": 0.5}),
        ("forget training set does not resurface", "suppression", "resurfacing/UA/psnr/rise", {"at_most": 0.5}),
        ("forget test structure does not resurface", "suppression", "resurfacing/KTA/ssim/rise", {"at_most": 0.03}),
        ("forget training structure does not resurface", "suppression", "resurfacing/UA/ssim/rise", {"at_most": 0.03}),
        ("forget test set still like the oracle's", "suppression", "resurfacing/KTA/psnr/gap", {"at_most": 1.0}),
        ("forget training set still like the oracle's", "suppression", "resurfacing/UA/psnr/gap", {"at_most": 1.0}),
        ("no head start when relearning", "suppression", "relearning/psnr/rise", {"at_most": 0.5}),
        ("no lead when relearning", "suppression", "relearning/psnr/area", {"at_most": 1.0}),
        ("forget test set elsewhere", "suppression", "acquisitions/highest/KTA/psnr/above", {"at_most": 1.0}),
        ("forget training set elsewhere", "suppression", "acquisitions/highest/UA/psnr/above", {"at_most": 1.0}),
        ("forget test set not known to int8", "suppression", "quantised/KTA/psnr/above", {"at_most": 1.0}),
        ("forget training set not known to int8", "suppression", "quantised/UA/psnr/above", {"at_most": 1.0}),
        ("no single patient known", "under-forgetting", "likelihood/forgotten", EXACT),
        ("no single patient known to int8", "suppression", "likelihood/quantised", EXACT),
        ("no single patient over-forgotten", "over-forgetting", "likelihood/over_forgotten", EXACT),
        ("those who stay not exposed", "retain damage", "likelihood/exposed", {"at_most": 1.0, **WHERE}),
        ("earlier requests not known", "under-forgetting", "earlier/highest/above", {"at_most": 1.0, **WHERE}),
        ("earlier requests not raised", "suppression", "earlier/highest/rise", {"at_most": 0.5, **WHERE}),
        (
            "earlier requests do not resurface",
            "suppression",
            "resurfacing/earlier/psnr/rise",
            {"at_most": 0.5, **WHERE},
        ),
        ("those who stay since the original", "retain damage", "erosion/total", {"at_least": -1.0, **WHERE}),
        (
            "images like another oracle's",
            "suppression",
            "output_distance/KTA/ratio",
            {"at_most": 2.0, "if_measured": True},
        ),
    )
)


def mask_of(settings: Mapping[str, Any]) -> ColumnMask:
    """The mask of an audit, from its configuration.

    Raises:
        ValueError: none of the project's masks.
    """
    return build_allowed(settings, MASKS, "certificate: mask")


def weaknesses(declared: Mapping[str, Mapping[str, Any]], settings: Any) -> dict[str, str]:
    """:func:`weakened`, by the configuration of the audit's mask; one that is not the project's counts as weak."""
    try:
        return weakened(declared, mask_of(settings))
    except ValueError as error:
        return {"evaluation": str(error)}


def weakened(declared: Mapping[str, Mapping[str, Any]], mask: ColumnMask) -> dict[str, str]:
    """The measures that can reject a model but not accept one, since they were declared with settings that hide much.

    Args:
        declared: The declared settings, see :func:`scripts.audit.experiment.measure_settings`.
        mask: The mask of the audit.

    Returns:
        Measure -> what is wrong; ``evaluation`` stands for all.
    """
    found = {}
    own = plain_settings(mask)
    if declared["evaluation"].get("mask") != own or declared["evaluation"].get("seed") != EVALUATION_SEED:
        found["evaluation"] = f"expected the audit's mask {own} from seed {EVALUATION_SEED}"
    for name, anneal in (("relearning", False), ("resurfacing", True)):
        training = declared[name]["training"]
        if not training["learning_rate"] >= LEARNING_RATE or training["anneal"] is not anneal:
            found[name] = f"expected a learning rate of {LEARNING_RATE} or more, anneal {anneal}"
        elif training["mask"] != own:
            found[name] = f"expected the audit's mask {own}"
    others = {name: plain_settings(other) for name, other in other_masks(mask).items()}
    if any(declared["acquisitions"]["masks"].get(name) != other for name, other in others.items()):
        found["acquisitions"] = f"expected the masks {', '.join(others)} among the others"
    return found
