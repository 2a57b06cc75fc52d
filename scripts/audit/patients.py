"""The audit of single patients, forgotten and retained ones, beside reference models that never saw them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from scripts.audit.inputs import read_record, record_beside
from scripts.audit.likelihood import MIN_REFERENCES, RATE, Scores, joint_error_rate, lira, patient_score, rmia, verdict
from scripts.audit.measure import (
    AUDITED,
    NOT_MEASURED,
    ORIGINAL,
    QUANTISED,
    Given,
    Measure,
    Statistics,
    not_measured,
    rejecting,
    with_interval,
)
from scripts.audit.provenance import weights_hashes
from scripts.data.slices import Undersample
from scripts.data.volumes import Volume
from scripts.evaluation.bootstrap import mean_with_interval
from scripts.evaluation.comparison import load_models
from scripts.evaluation.reconstruct import Models, measure_models, spread
from scripts.evaluation.results import Results
from scripts.evaluation.table import ABSENT, Table, number, percent
from scripts.run.config import running_config
from scripts.run.files import json_object
from scripts.run.kinds import within
from scripts.training.file_hashes import FileHashes

MOST_MASKS = 4
MOST = 20  # retained patients of each of two kinds: of the retain subset, which are the canaries, and others
FORGOTTEN, UNSEEN, CANARY, RETAINED = "forgotten", "unseen", "canary", "retained"
Scans = dict[str, list[Volume]]  # of each patient


def by_patient(volumes: Iterable[Volume]) -> Scans:
    """The scans of each patient; one that names no patient counts as a patient of its own."""
    found: Scans = {}
    for volume in volumes:
        found.setdefault(volume.patient_id or f"scan {volume.name}", []).append(volume)
    return found


class Likelihood(Measure):
    """Compares each patient's scans under the audited weights with the same scans under reference models.

    A reference model stands for what the audited one claims to be: it counts where its record shows that it was trained
    on no forget scan, and for those patients on whom it was not trained either. The canaries are patients whom the
    unlearning run read as its retain subset; of an oracle or an original that is audited, whom its training read. The
    unseen are patients of the test list whose scans no record names. Each scan is reconstructed from several masks, as
    far as the limit goes, and its scores are averaged.

    Args:
        given: The audit's data and models.
        weights: Reference models, each with the record of its training beside it; none leaves the measure out.
        rate: The error rate below which a patient counts as known.

    Raises:
        FileNotFoundError, ValueError: See :func:`read_references`; also without a record of
            the original's training, with fewer than two reference models that count, and with a limit below one slice
            of each scan under each model.
    """

    name = "likelihood"
    title = "Single patients, beside reference models"
    gates = ("(forgotten|over_forgotten|quantised|exposed)",)

    def __init__(self, given: Given, weights: Sequence[str] = (), rate: Annotated[float, within(0, 1)] = RATE) -> None:
        super().__init__(given)
        self.rate = rate
        self.references: dict[str, torch.nn.Module] = {}
        if not weights:
            return
        read = read_references(weights, given.weights, running_config())
        named = {f"reference {i}": path for i, path in enumerate(weights, start=1)}
        self.references = dict(load_models(given.network, named))
        self._read = dict(zip(self.references, read, strict=True))
        self._choose(*_own_records(given))
        volumes = [volume for scans in self.patients.values() for volume in scans]
        models = len(self.references) + 3
        least = models * len(volumes)
        if given.limit < least:
            raise ValueError(
                f"likelihood: 'slices_per_measure': expected at least {least} slices, one of each of {len(volumes)} "
                f"scans under {models} models, found {given.limit}"
            )
        self.chosen = spread(volumes, given.limit // models)
        masks = min(MOST_MASKS, given.limit // (models * len(self.chosen)))
        self.transforms = [Undersample(given.mask, seed) for seed in range(masks)]

    def _choose(self, training: frozenset[str], run: Mapping[str, frozenset[str]]) -> None:
        """Which patients the audit looks at, as what, and which reference models count for each."""
        cohorts = self.given.cohorts
        forgotten, kept = by_patient(cohorts["UA"]), by_patient(self.given.retain)
        tested = by_patient([*cohorts.get("BTA", []), *cohorts.get("KTA", [])])
        paths = [v.path for part in (forgotten, kept, tested) for scans in part.values() for v in scans]
        found = FileHashes(paths)
        self.hashes = {str(path): str(found[path]) for path in paths}
        forget = self._of(v for scans in forgotten.values() for v in scans)
        self.usable = [name for name, read in self._read.items() if not read & forget]
        if len(self.usable) < MIN_REFERENCES:
            raise ValueError(
                f"audit: 'reference_weights': expected at least {MIN_REFERENCES} whose records show no forget scan in "
                f"their training, found {len(self.usable)} of {len(self._read)}"
            )
        ever = training.union(*run.values())
        unseen = {
            p: scans for p, scans in tested.items() if p not in {*forgotten, *kept} and not self._of(scans) & ever
        }
        outside = {p: scans for p, scans in kept.items() if self._outside(scans) >= MIN_REFERENCES}
        last = run.get("retain", frozenset()) | run.get("training", frozenset())  # the latter of weights just trained
        canaries = [p for p, scans in outside.items() if self._of(scans) <= last]
        others = [p for p, scans in outside.items() if p not in canaries and self._of(scans) <= training]
        self.roles = {
            **dict.fromkeys(forgotten, FORGOTTEN),
            **dict.fromkeys(unseen, UNSEEN),
            **dict.fromkeys(_spaced(canaries), CANARY),
            **dict.fromkeys(_spaced(others), RETAINED),
        }
        every = {**forgotten, **unseen, **kept}
        self.patients = {patient: every[patient] for patient in self.roles}
        self.trained = {
            patient: [name for name, read in {ORIGINAL: training, **self._read}.items() if self._of(scans) <= read]
            for patient, scans in forgotten.items()
        }

    def _of(self, volumes: Iterable[Volume]) -> set[str]:
        """SHA-256 of the files of some volumes."""
        return {self.hashes[str(volume.path)] for volume in volumes}

    def _outside(self, scans: Sequence[Volume]) -> int:
        """How many of the reference models that count were trained on none of these scans."""
        return sum(not self._read[name] & self._of(scans) for name in self.usable)

    def slices(self, models: Models) -> int:
        return len(self.chosen) * len(self.transforms) * (len(self.references) + 3) if self.references else 0

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        self._control: dict = not_measured("no reference weights")
        if not self.references:
            return self._control
        compared = {name: models[name] for name in (AUDITED, ORIGINAL, QUANTISED)} | self.references
        found = [
            Results(measure_models(compared, {"patients": self.chosen}, transform, self.given.device))
            for transform in self.transforms
        ]
        level = {
            name: np.mean([_level(results.values(name, "patients", "ssim")) for results in found], axis=0)
            for name in compared
        }
        order = {volume: index for index, volume in enumerate(found[0].volumes("patients"))}
        index = {p: [order[volume.name] for volume in scans] for p, scans in self.patients.items()}
        members = np.array([self._saw(name, len(order), index) for name in self.usable])
        reference = np.array([level[name] for name in self.usable])
        scores = {
            name: self._scores(lira(values, reference, members), index)
            for name, values in level.items()
            if name not in self.usable
        }
        unseen = [i for patient, role in self.roles.items() if role == UNSEEN for i in index[patient]]
        likelier = rmia(level[AUDITED], reference, members, unseen) if unseen else np.full(len(order), np.nan)
        forgotten = self._with(FORGOTTEN)
        self._control = {FORGOTTEN: _gate(joint_error_rate(forgotten, scores[ORIGINAL]), [])}
        return self._found(scores, {p: float(np.mean(likelier[i])) for p, i in index.items()}, statistics)

    def _saw(self, name: str, count: int, index: Mapping[str, Sequence[int]]) -> np.ndarray:
        """(n,) whether a reference model was trained on any scan of a scan's patient."""
        saw = np.zeros(count, dtype=bool)
        for patient, places in index.items():
            saw[places] = bool(self._read[name] & self._of(self.patients[patient]))
        return saw

    def _scores(self, z: np.ndarray, index: Mapping[str, Sequence[int]]) -> Scores:
        of = {patient: patient_score(z[places]) for patient, places in index.items()}
        kinds = {patient: scans[0].fields.get("anatomy", "") for patient, scans in self.patients.items()}
        return Scores(of, kinds, self._with(UNSEEN), self._with(CANARY))

    def _with(self, *roles: str) -> list[str]:
        return [patient for patient, role in self.roles.items() if role in roles]

    def _found(self, scores: Mapping[str, Scores], likelier: Mapping[str, float], statistics: Statistics) -> dict:
        """What the audit says of each patient, and what its gates read.

        Returns:
            ``patients``, one entry each, see :func:`scripts.audit.likelihood.verdict`, with the role, the SHA-256 of
            the scans, the score under the original and RMIA's share; ``forgotten``, ``over_forgotten`` and
            ``quantised``: the joint error rates of the forgotten patients, which accept only where each verdict is
            *not found*; ``exposed``: how far the scores of retained patients rose above the original's, in standard
            deviations, beside the unseen.
        """
        forgotten = self._with(FORGOTTEN)
        rows = [
            self._row(number, patient, scores, likelier[patient])
            for role in (FORGOTTEN, CANARY, RETAINED)
            for number, patient in enumerate(self._with(role), start=1)
        ]
        rounded = [self._verdict(p, scores, QUANTISED) for p in forgotten]
        own = [row for row in rows if row["role"] == FORGOTTEN]
        return {
            "references": {"given": len(self.references), "counting": len(self.usable)},
            "rate": self.rate,
            "unseen": len(self._with(UNSEEN)),
            "canaries": len(self._with(CANARY)),
            "power": scores[AUDITED].power(self.rate),
            "patients": rows,
            FORGOTTEN: _gate(joint_error_rate(forgotten, scores[AUDITED]), own),
            "over_forgotten": _gate(joint_error_rate(forgotten, scores[AUDITED], low=True), own),
            "quantised": _gate(joint_error_rate(forgotten, scores[QUANTISED]), rounded),
            "exposed": self._exposed(scores, statistics),
        }

    def _verdict(self, patient: str, scores: Mapping[str, Scores], model: str) -> dict:
        trained = self.trained.get(patient, [ORIGINAL])
        return verdict(patient, scores[model], [scores[name] for name in trained], self.rate)

    def _row(self, number: int, patient: str, scores: Mapping[str, Scores], likelier: float) -> dict:
        """No name stands in it: a patient is known by the hashes of the scans."""
        return {
            "patient": f"{self.roles[patient]} {number}",
            "role": self.roles[patient],
            "scans": sorted(self._of(self.patients[patient])),
            **self._verdict(patient, scores, AUDITED),
            "original_score": scores[ORIGINAL].of[patient],
            "original_error_rate": scores[ORIGINAL].error_rate(patient),
            "rmia": likelier if np.isfinite(likelier) else None,
        }

    def _exposed(self, scores: Mapping[str, Scores], statistics: Statistics) -> dict:
        kept, unseen = self._with(CANARY, RETAINED), self._with(UNSEEN)
        if not kept or not unseen:
            return not_measured("no retained patient whom two reference models never saw, or no unseen one")
        rises = {p: scores[AUDITED].of[p] - scores[ORIGINAL].of[p] for p in (*kept, *unseen)}
        others = float(np.mean([rises[p] for p in unseen]))
        return dict(mean_with_interval([rises[p] - others for p in kept], kept, **statistics.draw))

    def control(self, results: Results, statistics: Statistics) -> dict | None:
        return self._control

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row a patient."""
        rows = [
            [
                row["patient"],
                str(len(row["scans"])),
                number(row["score"], 2, True),
                f"{row['error_rate']:.3f} [{', '.join(f'{bound:.3f}' for bound in row['interval'])}]",
                f"{number(row['original_score'], 2, True)} / {row['original_error_rate']:.3f}",
                ABSENT if row["rmia"] is None else number(row["rmia"]),
                f"{row['verdict']}: {row['because']}",
            ]
            for row in entry["patients"]
        ]
        power = NOT_MEASURED if entry["power"] is None else percent(entry["power"])
        note = (
            f"{entry['references']['counting']} reference models; {entry['unseen']} unseen patients; power: {power} of "
            f"{entry['canaries']} canaries found at an error rate below {entry['rate']:g}. Score: standard deviations "
            "above models that never saw the patient. Retained patients are expected to be known; "
            f"rise beside the unseen [{share}]: {with_interval(entry['exposed'], 2, True)}."
        )
        columns = ["patient", "scans", "score", "error rate [90%]", "original: score / error rate", "RMIA", "verdict"]
        return Table(cls.title, note, columns, rows)


def _level(ssim: np.ndarray) -> np.ndarray:
    """SSIM on the scale on which what is left of it counts, -10·log10(1 − SSIM), in dB."""
    return -10 * np.log10(np.maximum(1 - np.asarray(ssim), np.finfo(np.float64).tiny))


def files_read(record: Mapping[str, Any], where: str | Path) -> dict[str, frozenset[str]]:
    """Role -> SHA-256 of every file that a run read.

    Args:
        record: The content of a run's record.
        where: Its file, for the error.

    Raises:
        ValueError: The record names a file without its hash, or no file, so that it does not say what was read.
    """
    found = {role: [entry.get("sha256") for entry in part["volumes"]] for role, part in record["data"].items()}
    if not any(found.values()) or not all(all(hashes) for hashes in found.values()):
        raise ValueError(f"{where}: 'data': expected the SHA-256 of each file that was read, found some without")
    return {role: frozenset(hashes) for role, hashes in found.items()}


def read_references(weights: Sequence[str], audited: Mapping[str, str], settings: Mapping[str, Any]) -> list[frozenset]:
    """SHA-256 of the files on which each reference model was trained.

    Args:
        weights: Their files; the record of ``train`` lies beside each.
        audited: model -> file of the audit's own models.
        settings: The ``network`` and ``mask`` of the audit.

    Raises:
        FileNotFoundError: No such weights, or no record beside them.
        ValueError: A record of other weights or of another verb than ``train``, one that does not state the hash of
            each file, another network or mask than the audit's, weights that are given twice, or those of the original
            or of the audited model.
    """
    seen = {
        weights_hashes(path)["tensors_sha256"]: name for name, path in audited.items() if name in ("G", "unlearned")
    }
    references = []
    for path in map(str, weights):
        if not Path(path).is_file():
            raise FileNotFoundError(f"audit: 'reference_weights': no such file: {path}")
        beside = record_beside(path)
        record = read_record(beside, path)
        if beside is None or record is None:
            raise FileNotFoundError(
                f"audit: 'reference_weights': {path}: no record beside it ({Path(path).with_suffix('.json').name}), "
                "which says what it was trained on"
            )
        if record.get("verb") != "train" or record.get("weights_in") is not None:
            raise ValueError(f"{beside}: expected a training by the verb train from fresh weights, found another run")
        for name in ("network", "mask"):
            if record.get("configuration", {}).get(name) != json.loads(json.dumps(settings[name])):
                raise ValueError(f"{beside}: {name!r}: expected the audit's, found another one")
        digest = weights_hashes(path)["tensors_sha256"]
        if digest in seen:
            raise ValueError(f"audit: 'reference_weights': {path}: expected other weights than those of {seen[digest]}")
        seen[digest] = path
        references.append(frozenset().union(*files_read(record, beside).values()))
    return references


def _own_records(given: Given) -> tuple[frozenset[str], dict[str, frozenset[str]]]:
    """What the original's training read, and, by role, what the unlearning run read."""
    path = given.training or str(Path(given.weights[ORIGINAL]).with_suffix(".json"))
    if not Path(path).is_file():
        raise ValueError(
            f"likelihood: {given.weights[ORIGINAL]}: expected the record of the original's training, found none; it "
            "says whom the audited weights have seen"
        )
    training, run = json_object(path), json_object(given.record) if given.record else {}
    if training.get("verb") != "train":
        raise ValueError(
            f"likelihood: {path}: expected the record of a training, found one of {training.get('verb')!r}"
        )
    read = frozenset().union(*files_read(training, path).values())
    return read, files_read(run, given.record or "") if run else {}


def _gate(error_rate: float, verdicts: Sequence[Mapping]) -> dict:
    """It rejects as it stands, and accepts only where each verdict is *not found*. The tests are exact: no width."""
    why = next((f"{v['verdict']}: {v['because']}" for v in verdicts if v["verdict"] != "not found"), None)
    return rejecting({"value": error_rate, "interval": [error_rate, error_rate]}, why)


def _spaced(patients: Collection[str]) -> list[str]:
    """At most :data:`MOST`, evenly spaced."""
    known, count = list(patients), len(patients)
    return known if count <= MOST else [known[i * count // MOST] for i in range(MOST)]
