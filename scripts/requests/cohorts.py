"""The data of a run: the datalist, split by the forget request into what the paper calls D_r, D_f and the test sets."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from scripts.data.datalist import SECTIONS, load_datalist
from scripts.data.volumes import Volume
from scripts.requests.erasures import Erased, Erasure, erasures, request_digest
from scripts.requests.forget_request import ForgetRequest
from scripts.requests.ledger import Ledger

Source = str | Path | Mapping | Sequence[str | Path | Mapping] | Literal[False] | None
logger = logging.getLogger(__name__)


def kind_of(volume: Volume) -> tuple[str, str]:
    """What a scan shows and in which contrast; volumes that state neither are of one kind."""
    return volume.fields.get("anatomy", ""), volume.fields.get("acquisition", "")


class Cohorts:
    """Volumes by the part they play.

    Args:
        datalist: The datalist, see :func:`scripts.data.datalist.load_datalist`; None: no scan at all.
        forget_request: A file or a mapping, see :class:`ForgetRequest`, or a list of them; None or False: nothing is to
            be forgotten.
        ledger: The file that says what was erased before, see :class:`scripts.requests.ledger.Ledger`: such scans are
            in no list of training or validation, whatever their name is now. None or False: none.

    Attributes:
        requests: Each request.
        request: All requests as one; None without a request.
        erased: Name of each scan that was left out -> request that erased it.
        earlier: Request -> training scans that it erased before this one, in their order; only an audit looks at them.
        erased_in_test: Name of each test scan that was erased -> request; it stays there, nothing is trained on it.
        not_retained: Names of test scans that were erased or that an earlier request selects: no measure of what stays.
        retain: Training volumes that stay, D_r.
        forget: Training volumes to be forgotten, D_f; empty without a request.
        validation: Validation volumes that the request does not select.
        test: All test volumes.

    Raises:
        FileNotFoundError, ValueError: before anything is read but headers.
    """

    def __init__(
        self,
        datalist: str | Path | None,
        forget_request: Source = None,
        ledger: str | Path | Literal[False] | None = None,
    ) -> None:
        self.datalist = str(datalist)
        self.requests = _load(forget_request)
        self.request = ForgetRequest.join(self.requests) if self.requests else None
        self.sections = {section: [] for section in SECTIONS} if datalist is None else load_datalist(datalist)
        known: Any = Ledger(ledger) if ledger else None
        runs = erasures(known) if known else []
        if self.requests:
            ever = {digest for run in runs for digest in run.requests}
            repeated = [bool(ever) and request_digest(known, request) in ever for request in self.requests]
            self.sections = _marked(self.requests, self.sections, repeated)
        self.erased: dict[str, str] = {}
        self.earlier: dict[str, list[Volume]] = {}
        self.erased_in_test: dict[str, str] = {}
        self.not_retained: set[str] = set()
        self._carried_out: set[str] = set()
        if runs:
            self._leave_out(known, runs)
        training = self.sections["training"]
        self.retain = [volume for volume in training if not volume.forget]
        self.forget = [volume for volume in training if volume.forget]
        self.validation = [volume for volume in self.sections["validation"] if not volume.forget]
        self.test = self.sections["test"]

    def _leave_out(self, ledger: Ledger, runs: Sequence[Erasure]) -> None:
        """Take scans that were erased before out of training and validation, and their like out of the retain test.

        The run that carried out these very requests does not count for the scans that they select: an audit reads
        them, and so does a run that carries them out once more.
        """
        own = {request_digest(ledger, request) for request in self.requests}
        first = next((i for i, run in enumerate(runs) if own & set(run.requests)), len(runs))
        before, ever = Erased(ledger, runs[:first]), Erased(ledger, runs)
        for section in ("training", "validation"):
            found = {v.name: (before if v.forget else ever).by(v) for v in self.sections[section]}
            self.erased |= {name: by for name, by in found.items() if by is not None}
            if section == "training":
                earlier = [(v, before.by(v)) for v in self.sections[section] if v.name in self.erased]
                named = {run.name: [v for v, by in earlier if by == run.name] for run in runs[:first]}
                self.earlier = {name: volumes for name, volumes in named.items() if volumes}
            self.sections[section] = [v for v in self.sections[section] if v.name not in self.erased]
        staying = [volume for volume in self.sections["test"] if not volume.forget]
        self.erased_in_test = {v.name: by for v in staying if (by := ever.by(v)) is not None}
        alike = Erased(ledger, runs[:first], "like")
        self.not_retained = {v.name for v in staying if v.name in self.erased_in_test or alike.by(v) is not None}
        chosen = [volume for volume in self.sections["training"] if volume.forget]
        if self.request is not None and not chosen and not own & {d for run in runs for d in run.requests}:
            raise ValueError(
                f"{self.request.source}: request {self.request.request_id!r}: every scan that it selects was erased "
                f"before, by {', '.join(sorted(set(self.erased.values())))} ({ledger.path}); expected one that was not"
            )
        self._carried_out = {volume.name for volume in chosen if ever.by(volume) is not None}

    def log_erased(self) -> None:
        """Say in the log which scans were left out, and warn of those in the test list."""
        for name, request in self.erased.items():
            logger.info("left out, erased by request %s: %s", request, name)
        for name, request in self.erased_in_test.items():
            logger.warning("'test' holds a scan that request %s erased: %s", request, name)

    def expect_forget_set(self) -> None:
        """Refuse a method that reads the forgotten scans where there are none to read.

        Raises:
            ValueError: The request selects no scan of ``training``.
        """
        if not self.forget:
            raise ValueError(
                f"{self.datalist}: 'training': expected the scans that the request selects, found none: a method that "
                "changes the original reads them; unlearn.yaml alone does not"
            )

    def counts(self) -> dict[str, dict]:
        """``forgotten`` and ``retained`` training data: ``scans``, ``slices``, ``patients``, ``anatomies`` of each."""
        return {
            name: {
                "scans": len(volumes),
                "slices": sum(volume.num_slices for volume in volumes),
                "patients": len({volume.patient_id for volume in volumes} - {""}),
                "anatomies": sorted({volume.fields.get("anatomy", "") for volume in volumes}),
            }
            for name, volumes in {"forgotten": self.forget, "retained": self.retain}.items()
        }

    def by_part(self) -> dict[str, list[Volume]]:
        """The scans of the forget set by what an oracle knows of scans like them, without empty parts.

        Returns:
            ``kind``: no scan of their anatomy stays in training, so that an oracle never saw any. ``contrast``: their
            anatomy stays, their contrast of it goes. ``member``: others of their anatomy and contrast stay.
        """
        anatomies, staying = {kind_of(v)[0] for v in self.retain}, {kind_of(v) for v in self.retain}
        parts: dict[str, list[Volume]] = {"kind": [], "contrast": [], "member": []}
        for volume in self.forget:
            kind = kind_of(volume)
            parts["member" if kind in staying else "contrast" if kind[0] in anatomies else "kind"].append(volume)
        return {name: volumes for name, volumes in parts.items() if volumes}

    def held_out(self, retain_subset: Sequence[Volume]) -> list[Volume]:
        """Retain volumes that the original was not trained on: those to validate on, else the retain subset itself."""
        return self.validation or list(retain_subset)

    def training(self, oracle: bool, forget_only: bool = False) -> list[Volume]:
        """What a model is trained on: D_r ∪ D_f, D_r alone for the oracle, or D_f alone.

        Raises:
            ValueError: no training volumes; oracle or forget_only without a request, or both; D_f that was erased.
        """
        if oracle and forget_only:
            raise ValueError("training: 'oracle', 'forget_only': expected one of them at most, found both")
        if (oracle or forget_only) and self.request is None:
            name = "oracle" if oracle else "forget_only"
            raise ValueError(f"{name}: expected a forget request that says what to leave out, found none")
        volumes = self.retain if oracle else self.forget if forget_only else self.sections["training"]
        again = [volume.name for volume in volumes if volume.name in self._carried_out]
        if forget_only and again:
            raise ValueError(
                f"forget_only: expected scans that were not erased, found {', '.join(again)} in the ledger"
            )
        volumes = [volume for volume in volumes if volume.name not in self._carried_out]
        if not volumes:
            raise ValueError(f"{self.datalist}: 'training': expected at least one volume, found none")
        return volumes

    def evaluation(self, sections: Sequence[str] | None = None) -> dict[str, list[Volume]]:
        """Cohorts to evaluate on, without the empty ones.

        Args:
            sections: Datalist sections, each split by the request into retain and forget; None: the paper's
                BTA (retain test), KTA (forget test) and UA (forget training data), or ``test`` without a request.

        Raises:
            ValueError: nothing to evaluate on.
        """
        if self.request is None:
            cohorts = {section: self.sections[section] for section in sections or ["test"]}
        elif sections is None:
            cohorts = {"BTA": self._staying("test"), "KTA": [v for v in self.test if v.forget], "UA": self.forget}
        else:
            cohorts = {
                f"{section} {part}": volumes
                for section in sections
                for part, volumes in (
                    ("retain", self._staying(section)),
                    ("forget", [volume for volume in self.sections[section] if volume.forget]),
                )
            }
        cohorts = {name: volumes for name, volumes in cohorts.items() if volumes}
        if not cohorts:
            raise ValueError(f"{self.datalist}: expected volumes to evaluate on, found none in {sections or 'test'}")
        return cohorts

    def _staying(self, section: str) -> list[Volume]:
        return [v for v in self.sections[section] if not v.forget and v.name not in self.not_retained]


def _load(source: Source) -> list[ForgetRequest]:
    if source is None or source is False:
        return []
    stated = [source] if isinstance(source, (str, Path, Mapping)) else list(source)
    requests = [ForgetRequest.load(one) for one in stated]
    names = [request.request_id for request in requests]
    if not requests or len(set(names)) < len(names):
        raise ValueError(f"forget_request: expected requests of different identifiers, at least one, found {names}")
    return requests


def run_folder(forget_request: Source, root: str = "outputs") -> str:
    """The folder of a run: ``outputs/<request_id>``, with a hyphen for what a file name should not hold.

    >>> run_folder({"request_id": "2026/017", "reason": "consent", "forget": [{"anatomy": "knee"}]})
    'outputs/2026-017'
    """
    names = [request.request_id for request in _load(forget_request)]
    return f"{root}/{re.sub(r'[^A-Za-z0-9._-]+', '-', '+'.join(names)).strip('.-')[:100] or 'unlearn'}"


def _marked(
    requests: Sequence[ForgetRequest], sections: Mapping[str, list[Volume]], repeated: Sequence[bool]
) -> dict[str, list[Volume]]:
    """Every section with the scans marked that any request selects; each request is checked for itself.

    Of a request that was carried out before, some scans or all may have been deleted since.
    """
    marked = [request.apply(sections, again) for request, again in zip(requests, repeated, strict=True)]
    joined = {
        section: [replace(v, forget=any(marks[section][i].forget for marks in marked)) for i, v in enumerate(volumes)]
        for section, volumes in sections.items()
    }
    if all(volume.forget for volume in joined["training"]):
        raise ValueError(f"forget requests: together they select all {len(joined['training'])} training volumes")
    return joined
