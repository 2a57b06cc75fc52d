"""What is shipped: weights, the network that fits them, and what is known about how they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from monai.bundle import ConfigParser

from scripts.files import file_sha256
from scripts.networks import load_weights
from scripts.networks.import_weights import infer_network
from scripts.networks.weights import read_state

EVIDENCE = ("audit.json", "certificate.json")
PHANTOM = "$scripts.phantoms.phantom_datalist()"


@dataclass(frozen=True)
class Shipment:
    """The inputs of a bundle, checked.

    Attributes:
        weights: file that fits ``network``.
        network: configuration, ``_target_`` and arguments, without references and expressions.
        record: record of the run that wrote the weights; {} where there is none.
        metrics: ``metrics.json`` of that run; {} where there is none.
        table: ``table.md`` of that run; "" where there is none.
        evidence: audit and certificate of that run, as far as there are any.
    """

    weights: Path
    network: Mapping
    record: Mapping = field(default_factory=dict)
    metrics: Mapping = field(default_factory=dict)
    table: str = ""
    evidence: tuple[Path, ...] = ()

    @property
    def configuration(self) -> Mapping:
        """The configuration that the run was started with."""
        return self.record.get("configuration", {})

    @property
    def phantom(self) -> bool:
        """Whether the run read the built-in phantoms; unknown counts as yes only without any record."""
        return not self.record or self.configuration.get("datalist") == PHANTOM

    @property
    def results(self) -> Mapping:
        """Results of these weights: cohort -> metric -> mean and std."""
        return self.metrics.get("unlearned", self.metrics.get(self.weights.stem, {}))


def collect(run_dir: str | Path | None, weights: str | Path | None, network: Mapping | None = None) -> Shipment:
    """Find and check what there is to ship.

    Args:
        run_dir: folder of a finished unlearning run.
        weights: other weights than ``unlearned.pt`` of that folder; a record of the same name beside them is used.
        network: configuration of the network; by default that of the record, or one inferred from the tensors.

    Raises:
        FileNotFoundError, ValueError: naming file and field; the run is unfinished, its weights were changed after
            it, or they do not fit the network.
    """
    if weights is not None:
        path = Path(weights)
    elif run_dir is not None:
        path = Path(run_dir) / "unlearned.pt"
    else:
        raise ValueError("ship: 'run_dir', 'weights': expected at least one of them, found neither")
    if not path.is_file():
        hint = "" if weights is not None else " of a finished run; run 'unlearn' first"
        raise FileNotFoundError(f"{path}: expected the weights{hint}, found no such file")
    record = _json(path.with_suffix(".json"))
    folder = path.parent
    if record and record.get("weights_out", {}).get("sha256") != file_sha256(path):
        raise ValueError(
            f"{path}: SHA-256 expected {record.get('weights_out', {}).get('sha256')} as in {path.stem}.json, "
            f"found {file_sha256(path)}: the weights were changed after the run"
        )
    own = weights is None
    return Shipment(
        weights=path,
        network=_network(path, network or record.get("configuration", {}).get("network")),
        record=record,
        metrics=_json(folder / "metrics.json") if own else {},
        table=(folder / "table.md").read_text(encoding="utf-8") if own and (folder / "table.md").is_file() else "",
        evidence=tuple(folder / name for name in EVIDENCE if own and (folder / name).is_file()),
    )


def _network(weights: Path, network: Mapping | None) -> dict:
    """The configuration of a network that these weights fit."""
    if network is None:
        built, arguments = infer_network(read_state(weights))
        return {"_target_": f"scripts.networks.{type(built).__name__}", **arguments}
    config = dict(network)
    problems = [f"{key}={value!r}" for key, value in config.items() if str(value).startswith(("$", "@", "%"))]
    if problems:
        raise ValueError(f"ship: 'network': expected plain values, found {', '.join(problems)}")
    load_weights(ConfigParser({"network": dict(config)}).get_parsed_content("network"), weights)
    return config


def _json(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, found text that does not parse: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content
