"""What is said before and after an unlearning: what does not fit, what is poor, what was done and what comes next."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import ignite.distributed as idist
import torch

from scripts.requests.in_words import Facts, describe_outcome, retained_psnr
from scripts.run import command_of, tell
from scripts.run.config import running_config
from scripts.run.source import differing
from scripts.unlearning.restart import prior_of

logger = logging.getLogger(__name__)
WORSE = 1.0  # dB below the original on retained test scans that are said aloud
NEEDED = "older_weights"  # a key that approximate.yaml declares
COMPARED = {"mask": "quality may suffer", "train_epochs": "the budget is a share of that training"}
"""Keys of the original's configuration that a run should share with it, and what it means where it does not."""


@idist.one_rank_only()
def conclude(record: Facts, folder: str) -> None:
    """End a run: warn where its result is poor, and say what was done, where it is and what comes next."""
    warn_of_results(record)
    if record["forgetting"] == "exact":
        then = ("Repeat it", command_of("replay", run=folder))
    else:
        then = ("Approximate forgetting has to be measured. Next", command_of("audit", run=folder))
    tell(describe_outcome(record), f"{folder}; read {folder}/report.html", [then])


def warn_of_results(record: Facts) -> None:
    """Say in the log where no reconstruction is better, or the original much better, on retained test scans."""
    kept = retained_psnr(record)
    if "zero-filled" in kept and kept["zero-filled"] >= kept["unlearned"]:
        logger.warning(
            "the zero-filled image is better than the network's on retained test scans (%.1f against %.1f dB): this "
            "network should not be used. Spend more passes (--budget, here %s) or learn from more scans "
            "(--retain_fraction, here %s)",
            kept["zero-filled"], kept["unlearned"], record.get("budget"), record.get("retain_fraction"),
        )  # fmt: skip
    elif "original" in kept and kept["original"] - kept["unlearned"] > WORSE:
        logger.warning(
            "retained test scans are %.1f dB worse than with the original (%.1f against %.1f). Spend more passes "
            "(--budget, here %s) or learn from more scans (--retain_fraction, here %s)",
            kept["original"] - kept["unlearned"], kept["unlearned"], kept["original"], record.get("budget"),
            record.get("retain_fraction"),
        )  # fmt: skip


def check_run(method: Sequence[Any], network: torch.nn.Module, weights: str | Path | Literal[False] | None) -> None:
    """Refuse a method that cannot start, and warn where a run differs from how the original was trained.

    Args:
        method: The handlers of the method.
        network: The network that is to forget.
        weights: The original weights; their record lies beside them. Without either nothing is compared.

    Raises:
        ValueError: A method that changes the original, without the overlay that loads it; a prior that cannot be one,
            see :meth:`Prior.check`.
    """
    own = running_config()
    if (prior := prior_of(method)) is not None:
        prior.check(network, weights)
    elif NEEDED not in own:
        raise ValueError(
            f"config_file: 'method_name': {own.get('method_name')} changes the original, so expected "
            "bundle/configs/approximate.yaml between unlearn.yaml and the method's file, found it missing: "
            "--config_file \"['bundle/configs/unlearn.yaml','bundle/configs/approximate.yaml',"
            f"'bundle/configs/methods/{own.get('method_name')}.yaml']\""
        )
    for key, (found, expected) in _unlike(own, _trained(weights)).items():
        logger.warning("'%s': %s here, %s where %s was trained: %s", key, found, expected, weights, COMPARED[key])


def _trained(weights: str | Path | Literal[False] | None) -> Mapping[str, Any]:
    """The configuration of the training in the record beside some weights."""
    try:
        record = json.loads(Path(str(weights)).with_suffix(".json").read_text(encoding="utf-8"))
        return dict(record["configuration"]) if record["verb"] == "train" else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _unlike(own: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Key -> what a run has and what the training had, where they differ; of components the differing arguments."""
    both = {key: (own.get(key), trained[key]) for key in COMPARED if key in trained}
    return {key: differing(*parts) for key, parts in both.items() if parts[0] != parts[1]}
