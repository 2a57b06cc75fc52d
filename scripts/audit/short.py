"""A short audit at the end of unlearning: enough to reject what was done, too little to accept it."""

from __future__ import annotations

import logging
from typing import Any

import ignite.distributed as idist
import monai.bundle

from scripts.run.config import bundle_root, running_config

SHARED = ("device", "seed")
SETTINGS = {"relearning_steps": 16, "resurfacing_share": 0.016, "slices_per_measure": 800}
logger = logging.getLogger(__name__)


def audit_after(wanted: bool, output_dir: str) -> None:
    """Run the verb ``audit`` on the weights that ``unlearn`` has just written, and log its verdict.

    It is an audit of that run, with the run's device and seed. No certificate is written.

    Args:
        wanted: Whether to audit at all.
        output_dir: The folder with ``unlearned.pt``; the audit goes into its folder ``audit``.
    """
    if not wanted:
        return
    if idist.get_world_size() > 1:
        logger.warning("audit: it runs in one process; run the verb audit on %s/unlearned.pt", output_dir)
        return
    config = running_config()
    overrides: dict[str, Any] = {
        **{name: config[name] for name in SHARED if name in config},
        **SETTINGS,
        "run": output_dir,
        "overwrite": True,
        "check_values": False,
        "certificate": False,
        "logging_file": False,
    }
    monai.bundle.run("audit", config_file=f"{bundle_root()}/configs/audit.yaml", **overrides)
