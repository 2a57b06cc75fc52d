"""The data of a run: the datalist, split by the forget request into what the paper calls D_r, D_f and the test sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.data.datalist import SECTIONS, load_datalist
from scripts.data.volumes import Volume
from scripts.requests.forget_request import ForgetRequest


def kind_of(volume: Volume) -> tuple[str, str]:
    """What a scan shows and in which contrast; volumes that state neither are of one kind."""
    return volume.fields.get("anatomy", ""), volume.fields.get("acquisition", "")


class Cohorts:
    """Volumes by the part they play.

    Args:
        datalist: see :func:`scripts.data.datalist.load_datalist`.
        forget_request: file or mapping, see :class:`ForgetRequest`; None or False: nothing is to be forgotten.

    Attributes:
        retain: training volumes that stay, D_r.
        forget: training volumes to be forgotten, D_f; empty without a request.
        validation: validation volumes that the request does not select.
        test: all test volumes.

    Raises:
        FileNotFoundError, ValueError: before anything is read but headers.
    """

    def __init__(self, datalist: str | Path, forget_request: str | Path | Mapping | bool | None = None) -> None:
        self.datalist = str(datalist)
        if forget_request is True:
            raise ValueError("forget_request: expected a file, a mapping, or false for none, found true")
        stated = None if isinstance(forget_request, bool) else forget_request
        self.request = None if stated is None else ForgetRequest.load(stated)
        self.sections = load_datalist(datalist)
        if self.request is not None:
            self.sections = self.request.apply(self.sections)
        training = self.sections["training"]
        self.retain = [volume for volume in training if not volume.forget]
        self.forget = [volume for volume in training if volume.forget]
        self.validation = [volume for volume in self.sections["validation"] if not volume.forget]
        self.test = self.sections["test"]

    def members(self) -> list[Volume]:
        """The scans of the forget set that are one of many: a retained training scan is of the same kind.

        An oracle knows their kind. Of the other forgotten scans it never saw any like them.
        """
        staying = {kind_of(volume) for volume in self.retain}
        return [volume for volume in self.forget if kind_of(volume) in staying]

    def parts(self) -> list[str]:
        """What the forget set consists of: scans of a ``kind`` that goes as a whole, ``member``s of one that stays."""
        members = len(self.members())
        return [name for name, there in (("kind", members < len(self.forget)), ("member", members > 0)) if there]

    def held_out(self, retain_subset: Sequence[Volume]) -> list[Volume]:
        """Retain volumes that the original was not trained on: those to validate on, else the retain subset itself."""
        return self.validation or list(retain_subset)

    def training(self, oracle: bool, forget_only: bool = False) -> list[Volume]:
        """What a model is trained on: D_r ∪ D_f, D_r alone for the oracle, or D_f alone.

        Raises:
            ValueError: no training volumes, oracle or forget_only without a forget request, or both at once.
        """
        if oracle and forget_only:
            raise ValueError("training: 'oracle', 'forget_only': expected one of them at most, found both")
        if (oracle or forget_only) and self.request is None:
            name = "oracle" if oracle else "forget_only"
            raise ValueError(f"{name}: expected a forget request that says what to leave out, found none")
        volumes = self.retain if oracle else self.forget if forget_only else self.sections["training"]
        if not volumes:
            raise ValueError(f"{self.datalist}: 'training': expected at least one volume, found none")
        return volumes

    def evaluation(self, sections: Sequence[str] | None = None) -> dict[str, list[Volume]]:
        """Cohorts to evaluate on, without the empty ones.

        Args:
            sections: datalist sections, each split by the request into retain and forget; None: the paper's
                BTA (retain test), KTA (forget test) and UA (forget training data), or ``test`` without a request.

        Raises:
            ValueError: an unknown section, or nothing to evaluate on.
        """
        if sections is None:
            cohorts = self._paper_cohorts()
        else:
            unknown = sorted(set(sections) - set(SECTIONS))
            if unknown:
                raise ValueError(f"evaluation: 'sections': expected {', '.join(SECTIONS)}, found {', '.join(unknown)}")
            cohorts = {name: part for section in sections for name, part in self._split(section).items()}
        cohorts = {name: volumes for name, volumes in cohorts.items() if volumes}
        if not cohorts:
            raise ValueError(f"{self.datalist}: expected volumes to evaluate on, found none in {sections or 'test'}")
        return cohorts

    def _paper_cohorts(self) -> dict[str, list[Volume]]:
        if self.request is None:
            return {"test": self.test}
        return {
            "BTA": [volume for volume in self.test if not volume.forget],
            "KTA": [volume for volume in self.test if volume.forget],
            "UA": self.forget,
        }

    def _split(self, section: str) -> dict[str, list[Volume]]:
        volumes = self.sections[section]
        if self.request is None:
            return {section: volumes}
        return {
            f"{section} retain": [volume for volume in volumes if not volume.forget],
            f"{section} forget": [volume for volume in volumes if volume.forget],
        }
