"""The prior: weights that were trained on nobody's data, from which a network restarts."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import ignite.distributed as idist
import torch

from scripts.data.volumes import Volume
from scripts.networks.weights import align_keys, check_fit, read_state, unwrap
from scripts.run.config import bundle_root, run_verb, running_config
from scripts.run.files import cache_root, file_sha256, held, json_object

logger = logging.getLogger(__name__)
DESCRIBES = ("network", "mask", "precision")
"""The keys of a configuration that a prior and the run that restarts from it have in common."""


class Prior:
    """Finds the prior of a network and a mask, or has one made, and checks that it can be one.

    A prior is either *shown*: the record beside it says that its training opened no scan, only generic images; or
    *declared*: a public checkpoint of which the user states, by name and SHA-256, that it never saw the data.

    Args:
        volumes: The retained scans. Their most frequent matrix is the one that a prior is made for.
        file: The weights. None: the bundle's or the cache's for this network, mask, precision and matrix; where there
            is none, one is made when the run starts, once.
        declared: ``name`` and ``sha256`` of a public checkpoint; None: ``file`` needs a record that shows its origin.
        passes: The backward passes, in slices, of the training of a prior that has to be made.
        configs: The folder of ``train.yaml`` and ``prior.yaml``, with which one is made.

    Raises:
        ValueError: ``declared`` without ``file``, or without a name and a SHA-256.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        file: str | Path | None = None,
        declared: Mapping[str, str] | None = None,
        passes: int = 4000,
        configs: str | Path | None = None,
    ) -> None:
        if declared is not None and (file is None or set(declared) != {"name", "sha256"}):
            raise ValueError(
                "'declared_prior': expected {name: …, sha256: …} of the checkpoint that 'prior' names, found "
                f"{dict(declared)!r} with prior {file!r}"
            )
        configuration = running_config()
        self.description = {key: configuration.get(key) for key in DESCRIBES}
        self.matrix = list(Counter(volume.kspace_shape[-2:] for volume in volumes).most_common(1)[0][0])
        self.declared = None if declared is None else dict(declared)
        self.passes = passes
        self.configs = Path(configs or Path(bundle_root(), "configs"))
        self._made_in = cache_root() / "priors" / _key(self.description, self.matrix)
        self.path = Path(file) if file is not None else self._find()

    def check(self, network: torch.nn.Module, original: str | Path | Literal[False] | None = None) -> None:
        """Refuse what cannot be the prior of a network, before any work; a prior that has to be made comes later.

        Args:
            network: The network that restarts.
            original: The weights that are to be forgotten; None and False: there are none.

        Raises:
            FileNotFoundError, ValueError: Naming the file, the field, what was found and what was expected.
        """
        if self.path is None and idist.get_world_size() > 1:
            raise ValueError(
                "'prior': expected one for this network, mask and matrix, found none, and several processes do not "
                "make it; first: python -m monai.bundle run train --config_file "
                "\"['bundle/configs/train.yaml','bundle/configs/prior.yaml']\", with the same network and mask"
            )
        if self.path is None:
            logger.info(
                "no prior for this network, mask and matrix yet: it is made first, once, from %d generic images of "
                "%d x %d; later requests use it again (%s)",
                self.passes, *self.matrix, self._made_in,
            )  # fmt: skip
            return
        check_fit(network, self.path)
        if self.declared is not None:
            if (found := file_sha256(self.path)) != self.declared["sha256"]:
                raise ValueError(
                    f"{self.path}: 'declared_prior': expected SHA-256 {self.declared['sha256']}, found {found}"
                )
        else:
            self._check_record()
        if original and self._is(original, network):
            raise ValueError(f"{self.path}: 'prior': expected weights that never saw the data, found the original's")

    def make(self) -> None:
        """Train a prior where there is none, by the verb ``train`` with the overlay ``prior.yaml``."""
        if self.path is None:
            self._made_in.parent.mkdir(parents=True, exist_ok=True)
            with held(self._made_in.with_suffix(".lock")):  # another run may make the same one
                self._make_once()
            self.path = self._made_in / "prior.pt"
            self._check_record()

    def _make_once(self) -> None:
        if not (self._made_in / "prior.json").is_file():  # written last
            run_verb(
                "train",
                [str(self.configs / "train.yaml"), str(self.configs / "prior.yaml")],
                output_dir=str(self._made_in),
                matrix=self.matrix,
                prior_passes=self.passes,
                overwrite=True,
                **self.description,
            )

    def facts(self) -> dict[str, Any]:
        """For the record: file, SHA-256 and how it is known that the prior never saw the data."""
        assert self.path is not None
        known = {"declared": self.declared["name"]} if self.declared else {"shown": "its training opened no scan"}
        return {"path": str(self.path), "sha256": file_sha256(self.path), **known}

    def _is(self, original: str | Path, network: torch.nn.Module) -> bool:
        """Whether the prior is the original; a declared one may be a copy under other bytes, so values are compared."""
        assert self.path is not None
        if self.declared is None:
            return file_sha256(self.path) == file_sha256(original)
        expected = unwrap(network).state_dict()
        one, other = (align_keys(read_state(path, report=False), expected) for path in (self.path, original))
        return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())

    def _find(self) -> Path | None:
        """The prior of the bundle or of the cache that fits, or None."""
        for record in [*sorted(Path(bundle_root(), "models").glob("*.json")), self._made_in / "prior.json"]:
            content = json_object(record)
            if content.get("prior") and self._fits(content) and record.with_suffix(".pt").is_file():
                return record.with_suffix(".pt")
        return None

    def _fits(self, record: Mapping[str, Any]) -> bool:
        configuration = record.get("configuration") or {}
        own = {key: configuration.get(key) for key in DESCRIBES}
        return _key(own, configuration.get("matrix")) == _key(self.description, self.matrix)

    def _check_record(self) -> None:
        assert self.path is not None
        record = self.path.with_suffix(".json")
        content = json_object(record)
        if not content:
            raise ValueError(
                f"{self.path}: 'prior': expected a record beside it, {record.name}, that shows that it was trained on "
                "generic images alone, found none; a public checkpoint is declared: "
                "--declared_prior \"{'name': …, 'sha256': …}\""
            )
        scans = [*(content.get("opened") or {}).get("scans", []), *_stated_scans(content)]
        if content.get("verb") != "train" or not content.get("prior") or "opened" not in content or scans:
            found = f"{len(scans)} scans" if scans else f"a record of {content.get('verb')!r} that does not show it"
            raise ValueError(
                f"{record}: 'opened': expected the record of a training that opened generic images alone, found {found}"
            )
        if (content.get("weights_out") or {}).get("sha256") != (found := file_sha256(self.path)):
            raise ValueError(f"{record}: 'weights_out': expected the SHA-256 of {self.path}, {found}, found another")
        configuration = content.get("configuration") or {}
        for key in DESCRIBES:
            if configuration.get(key) != self.description[key]:
                raise ValueError(
                    f"{record}: {key!r}: expected a prior of this run's, {self.description[key]!r}, found "
                    f"{configuration.get(key)!r}"
                )
        if configuration.get("matrix") != self.matrix:
            logger.warning(
                "%s: the prior was made for images of %s, the retained scans have %s: quality may suffer",
                self.path, configuration.get("matrix"), self.matrix,
            )  # fmt: skip


def _stated_scans(record: Mapping[str, Any]) -> list:
    """The volumes that a record states as training data."""
    return [volume for role in (record.get("data") or {}).values() for volume in role.get("volumes", [])]


def _key(description: Mapping[str, Any], matrix: Any) -> str:
    content = json.dumps({**description, "matrix": matrix}, sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
