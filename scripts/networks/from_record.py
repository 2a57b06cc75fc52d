"""The network that a record or a certificate names, from a list of what may be built."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import torch

from scripts.run.kinds import is_expression

PACKAGES = (
    "scripts.networks",
    "fastmri.models",
    "monai.networks",
    "monai.apps.reconstruction.networks",
    "deepinv.models",
)
"""Where networks come from. The packages are trusted as the project's own code is: who installed them chose them."""
GROUP = "mri_unlearning.networks"
"""Entry points of installed packages: any name, and the module whose networks may be built."""
LOADS = re.compile(r"pretrain|ckpt|weights?$|path|file|url|^checkpoint$", re.I)
"""Arguments by which a constructor reads other weights."""


def network_from_record(config: Any, where: str, named: Collection[str] = ()) -> torch.nn.Module:
    """Build a network from its configuration, which may come from anyone and must not say which code runs.

    Args:
        config: ``_target_`` and arguments: plain values, lists and mappings of them, and further networks.
        where: Names the configuration in errors.
        named: Targets that the user named himself, in a configuration of his own: they may be built as well.

    Raises:
        ValueError: A target that is no network of :data:`PACKAGES`, of an installed package's entry point or of
            ``named``; an argument that is an expression or reads a file of weights.

    >>> network_from_record({"_target_": "scripts.networks.ReconUnet", "chans": 2, "pools": 1}, "record").training
    True
    >>> network_from_record({"_target_": "os.system", "command": "true"}, "record")
    Traceback (most recent call last):
    ...
    ValueError: record: '_target_': expected one of the networks of ..., found 'os.system'; one of your own ...
    """
    if not isinstance(config, Mapping) or "_target_" not in config:
        raise ValueError(f"{where}: '_target_': expected a network, found {config!r}")
    network = _built(config, where, named)
    if not isinstance(network, torch.nn.Module):
        raise ValueError(f"{where}: '_target_': expected a network, found {config['_target_']!r}")
    return network


def targets_of(config: Any) -> Iterator[str]:
    """All targets within a configuration.

    >>> list(targets_of({"_target_": "a.A", "network": {"_target_": "b.B", "sizes": [1, 2]}}))
    ['a.A', 'b.B']
    """
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield config["_target_"]
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from targets_of(value)


def _built(value: Any, where: str, named: Collection[str]) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            _refuse_instructions(value, where)
        arguments = {key: _built(item, f"{where}#{key}", named) for key, item in value.items() if key != "_target_"}
        if "_target_" not in value:
            return arguments
        try:
            return _allowed(value["_target_"], where, named)(**arguments)
        except TypeError as error:
            raise ValueError(f"{where}: expected the arguments of {value['_target_']}, found {error}") from error
    if isinstance(value, list):
        return [_built(item, where, named) for item in value]
    if not isinstance(value, (bool, int, float, str, type(None))) or is_expression(value):
        raise ValueError(f"{where}: expected plain values, found {value!r}")
    return value


def _allowed(target: Any, where: str, named: Collection[str]) -> Any:
    """The class of a target; of what the user named also a function."""
    known = (*PACKAGES, *(entry.value for entry in entry_points(group=GROUP)))
    chosen = isinstance(target, str) and target in named
    if not chosen and not (isinstance(target, str) and any(target.startswith(f"{package}.") for package in known)):
        raise ValueError(
            f"{where}: '_target_': expected one of the networks of {', '.join(known)}, found {target!r}; one "
            "of your own is named by an overlay: --config_file \"['VERB.yaml','my_network.yaml']\""
        )
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{where}: '_target_': expected {target!r} to be installed, found {error}") from error
    if not chosen and not (isinstance(found, type) and issubclass(found, torch.nn.Module)):
        raise ValueError(f"{where}: '_target_': expected a network, found {target!r}")
    return found


def _refuse_instructions(config: Mapping, where: str) -> None:
    """Refuse arguments that tell MONAI's parser something, or a constructor to read weights."""
    arguments = {key: value for key, value in config.items() if key != "_target_"}
    told = [f"{k}={v!r}" for k, v in arguments.items() if k.startswith("_") or is_expression(v)]
    if told:
        raise ValueError(f"{where}: expected plain values, found {', '.join(told)}")
    loads = [f"{k}={v!r}" for k, v in arguments.items() if LOADS.search(k) and isinstance(v, str)]
    if loads:
        raise ValueError(f"{where}: expected no argument by which {config['_target_']} reads weights, found {loads[0]}")
