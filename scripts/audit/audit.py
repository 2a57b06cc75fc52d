"""The audit: every measure, every gate, one verdict, written as JSON, Markdown, HTML and pictures."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from scripts.audit.earlier import advice
from scripts.audit.gates import check_gates, control, judge, overall
from scripts.audit.hallucination import null_space_maps
from scripts.audit.inputs import read_record
from scripts.audit.measure import AUDITED, QUANTISED, TREATED, Given, Measure, Statistics, is_measured
from scripts.audit.provenance import SETTINGS, doubts, lineage, origin, provenance_problems, weights_hashes
from scripts.audit.report import audit_markdown, audit_page
from scripts.audit.treated import treated_problems
from scripts.evaluation import Comparison
from scripts.evaluation.comparison import load_models
from scripts.evaluation.reconstruct import reconstruct
from scripts.evaluation.results import Results, read_results
from scripts.run.config import TRACKING, changed_settings, running_config
from scripts.run.files import file_sha256, json_object, json_sha256, write_text
from scripts.run.kinds import check_arguments
from scripts.training.file_hashes import FileHashes
from scripts.training.record import environment

VERSION = "2.0"
GUARANTEE = (
    "There is no formal guarantee that the influence of the forget set was removed. The figures are empirical: they "
    "hold for these weights, these scans and these measures, and another attack may find what these did not."
)
EXACT = (
    "The run replaced every weight by a prior's that never saw a patient, and read retained scans alone: the same "
    "command gives the same weights where the forgotten scans were deleted. What it forgot is therefore not measured."
)
MAPS = 2  # scans whose null-space maps are drawn
KEPT = "retain damage"  # what the gates on an exact run guard
# where things lie and run, and what a run's record decides: neither declared nor doubted
PLACES = {
    "_meta_", "imports", "run", "run_dir", "output_dir", "overwrite", "device", "tf32", "deterministic", "batch_size",
    "num_workers", "check_values", "datalist", "forget_request", "weights", "original_weights", "unlearned_weights",
    "oracle_weights", "oracle_seeds", "treated_oracle_weights", "reference_weights", "run_record", "ledger",
    "oracle_tuned", "full", "certificate", "identifier_key", "signing_key", "declare", "initialize", "run_folder",
    *TRACKING,
}  # fmt: skip
# what a user may set without a doubt about the result: measures say themselves where too little was spent
FREE = PLACES | {
    "seed", "precision", "network", "mask", "loss_function", "subgroups", "relearning_steps", "resurfacing_share",
    "slices_per_measure",
}  # fmt: skip
SAFE_STATISTICS = ("samples", "seed")  # more or fewer samples make intervals rougher, not narrower
logger = logging.getLogger(__name__)


def measures_of(given: Given, settings: Mapping[str, Mapping[str, Any] | None]) -> list[Measure]:
    """Measures by name, each with what its settings say in place of its defaults.

    Raises:
        ValueError: no measure of that name, one without such a setting, or a setting out of range.
    """
    unknown = sorted(set(settings) - set(Measure.known))
    if unknown:
        raise ValueError(f"audit: 'measures': expected of {', '.join(Measure.known)}, found {', '.join(unknown)}")
    found = []
    for name, own in settings.items():
        if own is None:
            continue
        try:
            inspect.signature(Measure.known[name]).bind(given, **own)
        except TypeError as error:
            raise ValueError(f"audit: 'measures#{name}': {error}, found {dict(own)}") from error
        check_arguments(Measure.known[name], own)
        found.append(Measure.known[name](given, **own))
    return found


class Audit:
    """Evaluates every model once, takes the measures, judges the gates and writes the outputs.

    A run whose record says that it forgot exactly is judged by what it kept; the measures that would train or run
    networks further are then left out, unless all are asked for.

    Args:
        comparison: Evaluates every model on BTA, KTA and UA; its models hold ``G``, ``unlearned`` and ``unlearned,
            int8`` and may hold ``oracle``, ``oracle 2`` … and ``treated oracle``.
        given: What the measures are given: weights as loaded into the comparison's models, records, data.
        measures: Name of each measure -> its settings, in the order of the report; see :func:`measures_of`.
        gates: Declared acceptance gates, see :func:`scripts.audit.gates.judge`.
        statistics: How intervals and equivalence tests are made.
        oracle_tuned: Whether the method's settings were chosen by looking at the oracle; None: not stated.
        full: Take every measure and judge every gate of an exact run too.
        replayed: The file that the verb ``replay`` wrote, if it has.

    Raises:
        FileNotFoundError, ValueError: before work starts, naming file or field.
    """

    def __init__(
        self,
        comparison: Comparison,
        given: Given,
        measures: Mapping[str, Mapping[str, Any] | None],
        gates: Sequence[Mapping],
        statistics: Statistics | None = None,
        oracle_tuned: bool | None = None,
        full: bool = False,
        replayed: str | Path | None = None,
    ) -> None:
        check_gates(gates)
        self.comparison, self.given = comparison, given
        weights, record = given.weights, given.record
        self.output_dir = Path(comparison.output_dir)
        self.weights = {name: {"path": self._path(path), **weights_hashes(path)} for name, path in weights.items()}
        self.record = read_record(record, weights[AUDITED])
        self.exact = (self.record or {}).get("forgetting") == "exact"
        self.kept_alone = self.exact and not full
        every = measures_of(given, measures)
        self.measures = [one for one in every if not self.kept_alone or not one.slices(comparison.models)]
        for one in self.measures:
            one.attach(comparison.evaluator)
        self.gates = gates
        self.lineages = {
            name: lineage(path, record if name == AUDITED else None)
            for name, path in weights.items()
            if record or name != AUDITED
        }
        self.runs = {name: origin(records) for name, records in self.lineages.items()}
        treated = treated_problems(self.runs, self.weights) if TREATED in weights else []
        if treated:
            raise ValueError(f"audit: 'treated_oracle_weights': {weights[TREATED]}: {'; '.join(treated)}")
        self.statistics = statistics or Statistics()
        self.oracle_tuned, self.replayed = oracle_tuned, replayed
        self.changed = changes()

    def run(self) -> dict:
        """Write ``audit.json``, ``audit.md``, ``audit.html``, ``hallucination.png`` and the comparison's files.

        Returns:
            The content of ``audit.json``.
        """
        logger.info("%s", self.plan())
        self._check_models()
        volumes = [volume for cohort in self.comparison.cohorts.values() for volume in cohort]
        hashes = FileHashes(volume.path for volume in volumes)
        summary = self.comparison.run()
        self._draw()
        provenance = self._provenance(hashes)
        without = {TREATED} if provenance["problems"].get(TREATED) else set()  # a control that is not shown to be one
        rows = read_results(self.output_dir / "metrics.csv")
        results = Results(row for row in rows if row.model not in without)
        models = {name: model for name, model in self.comparison.models.items() if name in results.models}
        found = {one.name: one.measure(models, results, self.statistics) for one in self.measures}
        original = {one.name: one.control(results, self.statistics) for one in self.measures}
        known = {name: entry for name, entry in original.items() if entry is not None}
        stated = declared(self.gates, self.statistics)
        judged = judged_by(found, known, stated, provenance["problems"], self.kept_alone)
        result = {"version": VERSION, **judged, "models": summary, "provenance": provenance, **self._facts()}
        result["inputs"]["scans"] = {volume.name: hashes[volume.path] for volume in volumes}
        write_text(self.output_dir / "audit.json", json.dumps(result, indent=2, allow_nan=False) + "\n")
        write_text(self.output_dir / "audit.md", audit_markdown(result))
        write_text(self.output_dir / "audit.html", audit_page(result) + "\n")
        logger.info("verdict: %s\n\n%s\n", result["verdict"]["verdict"], audit_markdown(result))
        return result

    def _check_models(self) -> None:
        """Refuse networks whose tensors are not those of the files that the audit states.

        Raises:
            ValueError: naming the model.
        """
        for name, loaded in load_models(self.given.network, self.given.weights).items():
            stated, found = loaded.state_dict(), self.comparison.models[name].state_dict()
            if stated.keys() != found.keys() or any(not torch.equal(stated[k], found[k].cpu()) for k in stated):
                file = self.given.weights[name]
                raise ValueError(f"audit: 'models': {name}: expected the tensors of {file}, found others")

    def plan(self) -> str:
        """What is about to be done, in slices through a network, training included: one line a measure."""
        models = self.comparison.models
        whole = sum(volume.num_slices for volumes in self.comparison.cohorts.values() for volume in volumes)
        counts = {"evaluation of every model": whole * len(models)}
        counts |= {one.name: count for one in self.measures if (count := one.slices(models))}
        lines = [f"{name}: {count:,} slices through a network" for name, count in counts.items()]
        return "\n".join(["the audit will take", *lines])

    def _facts(self) -> dict:
        """What went into the audit and where it ran."""
        records = {
            name: [{"path": self._path(path), "sha256": file_sha256(path)} for path in paths]
            for name, paths in self.lineages.items()
        }
        return {
            "forgetting": self._forgetting(),
            "oracle_tuned": self.oracle_tuned,
            "inputs": {"weights": self.weights, "records": records},
            "pictures": ["hallucination.png", "panels.png"],
            "device": str(self.comparison.device),
            "environment": environment(),
            "configuration": running_config(),
        }

    def _forgetting(self) -> dict[str, Any]:
        """How the run forgot, by its record, and how that is shown."""
        if not self.exact:
            stated = None if self.record is None else self.record.get("forgetting", "approximate")
            return {"how": stated, "shown": None, "text": None, "kept_alone": False}
        shown = "replayed" if is_replayed(self.replayed, self.weights[AUDITED]["sha256"]) else "replayable"
        text = f"Forgetting: exact ({shown}). {EXACT}"
        return {"how": "exact", "shown": shown, "text": text, "kept_alone": self.kept_alone}

    def _provenance(self, hashes: FileHashes) -> dict:
        """Origin of the models, the audit's own data and settings, and what speaks against them."""
        configuration = running_config()
        evaluated = {c: sorted(map(str, (hashes[v.path] for v in vs))) for c, vs in self.comparison.cohorts.items()}
        audit = {
            "datalist": file_sha256(self.given.datalist),
            **{name: configuration.get(name) for name in SETTINGS},
            "data": {"forget": evaluated["UA"]},
            "evaluated": evaluated,
            "changed": self.changed,
        }
        return {"runs": self.runs, "audit": audit, "problems": provenance_problems(self.runs, audit, self.weights)}

    def _path(self, path: str | Path) -> str:
        """A path as seen from the audit's folder, so that both can be moved together."""
        return os.path.relpath(path, self.output_dir)

    def _draw(self) -> None:
        models = {name: m for name, m in self.comparison.models.items() if name != QUANTISED}
        transform, device = self.comparison.transform, self.comparison.device
        volumes = self.comparison.cohorts["BTA"][:MAPS]
        scans = [reconstruct(models, "BTA", v, [v.num_slices // 2], transform, device) for v in volumes]
        null_space_maps(scans, self.output_dir / "hallucination.png")


def declared(gates: Sequence[Mapping], statistics: Statistics) -> dict[str, Any]:
    """What has to be declared before there is a result, as JSON content: it decides what the verdict will be.

    Args:
        gates: See :func:`scripts.audit.gates.judge`.
        statistics: The settings of intervals and equivalence tests.

    Returns:
        Both, and ``settings``: every other key of the configuration but :data:`PLACES` -> SHA-256 of its content.
    """
    configuration = running_config()
    settings = {
        k: json_sha256(v)
        for k, v in sorted(configuration.items())
        if k not in {*PLACES, "gates", "statistics", "audit"}
    }
    content = {
        "gates": [dict(gate) for gate in gates],
        "confidence": statistics.confidence,
        "bootstrap_samples": statistics.samples,
        "seed": statistics.seed,
        "equivalence_margins": dict(statistics.equivalence),
        "settings": settings,
        "treated_oracle": bool(configuration.get("treated_oracle_weights")),
    }
    return dict(json.loads(json.dumps(content)))


def changes() -> list[str]:
    """The settings of the running audit that are not the project's and may change what is found."""
    return [key for key in changed_settings(FREE) if key not in {f"statistics#{name}" for name in SAFE_STATISTICS}]


def judged_by(
    found: Mapping[str, Any],
    original: Mapping[str, Any],
    stated: Mapping[str, Any],
    problems: Mapping[str, Any],
    kept_alone: bool = False,
) -> dict[str, Any]:
    """Verdict, gates and control, from measures and declaration: the audit and the verifier judge by this function.

    Args:
        found: The measures of the audited model.
        original: Those with the original in its place.
        stated: What was declared, see :func:`declared`.
        problems: See :func:`scripts.audit.provenance.provenance_problems`.
        kept_alone: Judge what is kept and was measured, with an oracle only where there is one: the run shows by how it
            was made that it forgot.
    """
    measured = {name for name, result in found.items() if is_measured(result)}
    gates = [
        gate
        for gate in stated["gates"]
        if not kept_alone or (gate["guards"] == KEPT and gate["measure"].partition("/")[0] in measured)
    ]
    judged = [judge(gate, found) for gate in gates]
    checked = control([] if kept_alone else gates, original)
    return {
        "verdict": overall(judged, checked["sees_remembering"], doubts(problems), kept_alone),
        "statement": GUARANTEE,
        "advice": advice(judged),
        "gates": judged,
        "control": {**checked, "measures": dict(original)},
        "declared": dict(stated),
        "measures": dict(found),
    }


def is_replayed(file: str | Path | None, sha256: str) -> bool:
    """Whether the verb ``replay`` found these weights again, by what it wrote."""
    weights = json_object(file).get("weights") if file is not None else None
    return isinstance(weights, dict) and weights.get("found") == weights.get("expected") == sha256
