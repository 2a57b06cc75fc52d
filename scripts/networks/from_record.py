"""The network that a record or a certificate names, from a list of the project's own."""

from __future__ import annotations

from typing import Any

import torch

from scripts.networks.unet import ReconUnet
from scripts.networks.varnet import VarNet
from scripts.run.allowed import build_allowed

NETWORKS = {f"scripts.networks.{network.__name__}": network for network in (VarNet, ReconUnet)}


def network_from_record(config: Any, where: str) -> torch.nn.Module:
    """Build a network from its configuration, see :func:`scripts.run.allowed.build_allowed`.

    >>> network_from_record({"_target_": "scripts.networks.ReconUnet", "chans": 2, "pools": 1}, "record").training
    True
    """
    return build_allowed(config, NETWORKS, where)
