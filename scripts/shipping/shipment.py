"""What is shipped: weights, the network that fits them, and what is known about how they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.certificate.checks import FAILS
from scripts.certificate.signature import ENVELOPE, NAME, parse
from scripts.certificate.verify import verify_certificate
from scripts.kspace.masks import EquispacedFractionMask, EquispacedMask, RandomMask
from scripts.networks import load_weights
from scripts.networks.from_record import network_from_record, targets_of
from scripts.networks.import_weights import infer_network
from scripts.networks.weights import read_state
from scripts.run.files import file_sha256

MASKS = {f"scripts.data.{mask.__name__}": mask for mask in (RandomMask, EquispacedMask, EquispacedFractionMask)}


@dataclass(frozen=True)
class Shipment:
    """The inputs of a bundle, checked.

    Attributes:
        weights: The file of weights, which fits ``network``.
        network: The network's configuration, ``_target_`` and plain arguments.
        named: The targets in it that the user named himself, so that they may be built.
        mask: The mask of the run, likewise; None without a record.
        record: The record of the run that wrote the weights; {} without one.
        certificate: The certificate of these weights and, if it is signed, its envelope.
        results: Mean and standard deviation by model, cohort and metric: the certificate's, else the record's.
    """

    weights: Path
    network: Mapping[str, Any]
    named: frozenset[str] = frozenset()
    mask: Mapping[str, Any] | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    certificate: tuple[Path, ...] = ()
    results: Mapping[str, Any] = field(default_factory=dict)

    @property
    def phantom(self) -> bool:
        """Whether the record states that the run read the built-in phantoms and nothing else."""
        roles = self.record.get("data", {}).values()
        return bool(roles) and all(role.get("sources") == ["phantom"] for role in roles)

    @property
    def own_results(self) -> Mapping[str, Any]:
        """Results of these weights, by cohort and metric."""
        return self.results.get("unlearned", {})


def collect(
    run_dir: str | Path | None,
    weights: str | Path | None,
    network: Mapping[str, Any] | None = None,
    audit_dir: str | Path | None = None,
) -> Shipment:
    """Find and check what there is to ship.

    Args:
        run_dir: The folder of a finished unlearning run.
        weights: Other weights than ``unlearned.pt`` of that folder; a record of the same name beside them is used.
        network: The network's configuration, as the user gave it; by default that of the record, or one inferred
            from the tensors.
        audit_dir: The folder of the audit of these weights, whose certificate is shipped if there is one.

    Raises:
        FileNotFoundError, ValueError: naming file and field; the run is unfinished, its weights were changed after
            it, they do not fit the network, the record names a network that is none of the project's, or the
            certificate is of other weights or does not verify.
    """
    if weights is None and run_dir is None:
        raise ValueError("ship: 'run_dir', 'weights': expected at least one of them, found neither")
    path = Path(weights) if weights is not None else Path(str(run_dir), "unlearned.pt")
    if not path.is_file():
        hint = "" if weights is not None else " of a finished run; run 'unlearn' first"
        raise FileNotFoundError(f"{path}: expected the weights{hint}, found no such file")
    record = _json(path.with_suffix(".json"))
    if record and (record.get("weights_out") or {}).get("sha256") != file_sha256(path):
        raise ValueError(
            f"{path}: SHA-256 expected {(record.get('weights_out') or {}).get('sha256')} as in {path.stem}.json, "
            f"found {file_sha256(path)}: the weights were changed after the run"
        )
    certificate, certified = _certificate(audit_dir, path)
    configuration = record.get("configuration", {})
    mask = configuration.get("mask")
    if mask is not None:
        _check_mask(mask)
    named = frozenset(targets_of(network or {}))
    return Shipment(
        weights=path,
        network=_network(path, network or configuration.get("network"), named),
        named=named,
        mask=mask,
        record=record,
        certificate=certificate,
        results=certified or record.get("results") or {},
    )


def _network(weights: Path, network: Mapping[str, Any] | None, named: frozenset[str]) -> dict[str, Any]:
    """The configuration of a network that these weights fit."""
    if network is None:
        try:
            built, arguments = infer_network(read_state(weights))
        except ValueError as error:
            raise ValueError(f"{weights}: {str(error).removeprefix(f'{weights}: ')}") from error
        load_weights(built, weights)
        return {"_target_": f"scripts.networks.{type(built).__name__}", **arguments}
    load_weights(network_from_record(network, "ship: 'network'", named), weights)
    return dict(network)


def _check_mask(mask: Any) -> None:
    """Refuse a recorded mask that is none of the project's: a file that may come from anyone must not say what runs."""
    target = mask.get("_target_") if isinstance(mask, Mapping) else mask
    if not isinstance(target, str) or target not in MASKS:
        raise ValueError(f"ship: 'mask': '_target_': expected one of {', '.join(sorted(MASKS))}, found {target!r}")
    try:
        MASKS[target](**{key: value for key, value in mask.items() if key != "_target_"})
    except TypeError as error:
        raise ValueError(f"ship: 'mask': expected the arguments of {target}, found {error}") from error


def _certificate(audit_dir: str | Path | None, weights: Path) -> tuple[tuple[Path, ...], Mapping[str, Any]]:
    """The certificate's files and the results that it states; nothing where the audit has none."""
    if audit_dir and not Path(audit_dir).is_dir():
        raise FileNotFoundError(f"{audit_dir}: 'audit_dir': expected the folder of an audit, found none")
    path = Path(audit_dir) / NAME if audit_dir else None
    if path is None or not path.is_file():
        return (), {}
    found = verify_certificate(path, weights={"unlearned": weights})
    failed = [what for verdict, what in found if verdict == FAILS]
    if failed:
        raise ValueError(
            f"{path}: 'audit_dir': expected the certificate of {weights}, found one that does not verify: "
            f"{'; '.join(failed[:3])}"
        )
    envelope = path.with_name(ENVELOPE)
    files = (path, envelope) if envelope.is_file() else (path,)
    return files, parse(path.read_bytes(), path)["predicate"]["audit"]["models"]


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, found text that does not parse: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content
