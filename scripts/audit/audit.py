"""The audit: every measure, every gate, one verdict, written as JSON, Markdown, HTML and pictures."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.audit import measures
from scripts.audit.earlier import advice
from scripts.audit.experiment import (
    AUDITED,
    CALIBRATION,
    ORIGINAL,
    QUANTISED,
    QUERY,
    TREATED,
    Experiment,
    measure_settings,
)
from scripts.audit.gates import check_gates, control, declared, judge, of_original, overall
from scripts.audit.hallucination import null_space_maps
from scripts.audit.inputs import check_cohorts, check_subgroups, cost, read_record, training_of
from scripts.audit.probe import SliceProbe
from scripts.audit.provenance import (
    SETTINGS,
    AuditedFiles,
    doubts,
    lineage,
    origin,
    provenance_problems,
    weights_hashes,
)
from scripts.audit.section import audit_page
from scripts.audit.statistics import Statistics
from scripts.audit.tables import audit_markdown
from scripts.audit.treated import left_out, treated_problems
from scripts.evaluation import Comparison
from scripts.evaluation.reconstruct import reconstruct
from scripts.evaluation.results import Results, read_results
from scripts.run.config import running_config
from scripts.run.files import file_sha256, write_text
from scripts.training.file_hashes import FileHashes
from scripts.training.record import environment

VERSION = "1.0"
GUARANTEE = (
    "There is no formal guarantee that the influence of the forget set was removed. The figures are empirical: they "
    "hold for these weights, these scans and these measures, and another attack may find what these did not."
)
MAPS = 2  # scans whose null-space maps are drawn
HIDDEN = (QUERY, CALIBRATION, QUANTISED)  # models that say nothing about hallucination
logger = logging.getLogger(__name__)


class Audit:
    """Evaluates every model once, runs the experiments, judges the gates and writes the outputs.

    Args:
        comparison: Evaluates every model on BTA, KTA and UA; its models hold ``G``, ``unlearned`` and ``unlearned,
            int8`` and may hold ``oracle``, ``oracle 2`` …, ``query`` and ``calibration``.
        probe: Attached to the comparison's evaluator.
        experiments: Measures that put slices through networks themselves.
        gates: Declared acceptance gates, see :func:`scripts.audit.gates.judge`.
        files: Weights as loaded into the comparison's models, datalist, and the unlearning run's record, without
            which cost is not measured.
        statistics: How intervals and equivalence tests are made.
        subgroups: Fields of the volumes whose values make the subgroups.
        oracle_tuned: Whether the method's settings were chosen by looking at the oracle; None: not stated.

    Raises:
        FileNotFoundError, ValueError: before work starts, naming file or field.
    """

    def __init__(
        self,
        comparison: Comparison,
        probe: SliceProbe,
        experiments: Sequence[Experiment],
        gates: Sequence[Mapping],
        files: AuditedFiles,
        statistics: Statistics | None = None,
        subgroups: Sequence[str] = (),
        oracle_tuned: bool | None = None,
    ) -> None:
        check_gates(gates)
        check_subgroups(subgroups)
        check_cohorts(comparison.cohorts)
        self.comparison, self.probe, self.experiments = comparison, probe, list(experiments)
        self.gates = [dict(gate) for gate in gates]
        weights, record = files.weights, files.record
        self.files = files
        self.output_dir = Path(comparison.output_dir)
        self.weights = {name: {"path": self._path(path), **weights_hashes(path)} for name, path in weights.items()}
        self.record = read_record(record, weights[AUDITED])
        self.training = training_of(weights[ORIGINAL], files.training)
        self.lineages = {
            name: lineage(path, record if name == AUDITED else None)
            for name, path in weights.items()
            if name not in (QUERY, CALIBRATION) and (record or name != AUDITED)
        }
        self.runs = {name: origin(records) for name, records in self.lineages.items()}
        self._check_treated(weights)
        self.statistics = statistics or Statistics()
        self.subgroups = list(subgroups)
        self.oracle_tuned = oracle_tuned

    def run(self) -> dict:
        """Write ``audit.json``, ``audit.md``, ``audit.html``, ``hallucination.png`` and the comparison's files.

        Returns:
            The content of ``audit.json``.
        """
        logger.info("%s", self.plan())
        volumes = [volume for cohort in self.comparison.cohorts.values() for volume in cohort]
        hashes = FileHashes(volume.path for volume in volumes)
        summary = self.comparison.run()
        self._draw()
        provenance = self._provenance(hashes)
        without = left_out(provenance["problems"])
        rows = read_results(self.output_dir / "metrics.csv")
        results = Results(row for row in rows if row.model not in without)
        judged = self._judged(self._measures(results), self._original(results), provenance["problems"])
        result = {"version": VERSION, **judged, "models": summary, "provenance": provenance, **self._facts()}
        result["inputs"]["scans"] = {volume.name: hashes[volume.path] for volume in volumes}
        write_text(self.output_dir / "audit.json", json.dumps(result, indent=2, allow_nan=False) + "\n")
        write_text(self.output_dir / "audit.md", audit_markdown(result))
        write_text(self.output_dir / "audit.html", audit_page(result) + "\n")
        logger.info("verdict: %s\n\n%s\n", result["verdict"]["verdict"], audit_markdown(result))
        return result

    def plan(self) -> str:
        """What is about to be done, in slices through a network, training included: one line a measure."""
        models = self.comparison.models
        whole = sum(volume.num_slices for volumes in self.comparison.cohorts.values() for volume in volumes)
        counts = {"evaluation of every model": whole * len(models)}
        counts |= {experiment.name: experiment.slices(models) for experiment in self.experiments}
        lines = [f"{name}: {count:,} slices through a network" for name, count in counts.items()]
        return "\n".join(["the audit will take", *lines])

    def _judged(self, found: Mapping, original: Mapping, problems: Mapping) -> dict:
        """Verdict, gates and control, from the measures of the audited model and of the original."""
        tunable = measure_settings(self.experiments, self.comparison.transform)
        judged = [judge(gate, found) for gate in self.gates]
        checked = control(self.gates, of_original(original, found))
        return {
            "verdict": overall(judged, checked["sees_remembering"], doubts(problems)),
            "statement": GUARANTEE,
            "advice": advice(judged),
            "gates": judged,
            "control": checked,
            "declared": declared(self.gates, self.statistics, self.subgroups, tunable, TREATED in self.weights),
            "oracle_tuned": self.oracle_tuned,
            "measures": found,
            "null_space": self._null_space(),
            "observed": {one.name: one.seen for one in self.experiments},
        }

    def _facts(self) -> dict:
        """What went into the audit and where it ran."""
        records = {
            name: [{"path": self._path(path), "sha256": file_sha256(path)} for path in paths]
            for name, paths in self.lineages.items()
        }
        return {
            "inputs": {"weights": self.weights, "records": records},
            "pictures": ["hallucination.png", "panels.png"],
            "device": str(self.comparison.device),
            "environment": environment(),
            "configuration": running_config(),
        }

    def _provenance(self, hashes: FileHashes) -> dict:
        """Origin of the models, the audit's own data and settings, and what speaks against them."""
        configuration = running_config()
        evaluated = {c: sorted(map(str, (hashes[v.path] for v in vs))) for c, vs in self.comparison.cohorts.items()}
        audit = {
            "datalist": file_sha256(self.files.datalist),
            **{name: configuration.get(name) for name in SETTINGS},
            "data": {"forget": evaluated["UA"]},
            "evaluated": evaluated,
        }
        return {"runs": self.runs, "audit": audit, "problems": provenance_problems(self.runs, audit, self.weights)}

    def _measures(self, results: Results) -> dict:
        models = {name: model for name, model in self.comparison.models.items() if name in results.models}
        cohorts = self.comparison.cohorts
        patients = {volume.name: volume.patient_id for volumes in cohorts.values() for volume in volumes}
        features = {name: run["features"] for name, run in self._seen().items()}
        return {
            "oracle_gap": measures.oracle_gaps(results, self.statistics),
            "recipe": measures.recipe(results, self.statistics),
            "original_gap": measures.gaps(results, [ORIGINAL], self.statistics),
            "quantised": measures.oracle_gaps(results, self.statistics, audited=QUANTISED),
            "distribution": measures.distributions(results),
            "membership": measures.membership(results, self.statistics),
            "have_you_forgotten": measures.have_you_forgotten(results),
            "hallucination": measures.hallucination(self._null_space(), patients, self.statistics),
            "distance": measures.distance(models, features, cohorts),
            "subgroups": measures.subgroups(results, cohorts, self.subgroups, self.statistics),
            "cost": cost(self.record, self.training),
            **{one.name: one.measure(models, results, self.statistics) for one in self.experiments},
        }

    def _seen(self) -> dict:
        """What the probe saw of each model."""
        names = list(self.comparison.models)
        return dict(zip(names, self.probe.runs[-len(names) :], strict=True))

    def _null_space(self) -> dict:
        """Model -> volume of BTA -> sums of the null-space error."""
        return {name: run["null_space"] for name, run in self._seen().items() if name not in HIDDEN}

    def _path(self, path: str | Path) -> str:
        """A path as seen from the audit's folder, so that both can be moved together."""
        return Path(os.path.relpath(path, self.output_dir)).as_posix()

    def _original(self, results: Results) -> dict:
        """The measures with the original in place of the audited model, for the control."""
        return {
            "oracle_gap": measures.oracle_gaps(results, self.statistics, audited=ORIGINAL),
            "membership": measures.membership(results, self.statistics, audited=ORIGINAL),
        }

    def _check_treated(self, weights: Mapping[str, str]) -> None:
        problems = treated_problems(self.runs, self.weights) if TREATED in weights else []
        if problems:
            raise ValueError(f"audit: 'treated_oracle_weights': {weights[TREATED]}: {'; '.join(problems)}")

    def _draw(self) -> None:
        models = {name: m for name, m in self.comparison.models.items() if name not in HIDDEN}
        transform, device = self.comparison.transform, self.comparison.device
        volumes = self.comparison.cohorts["BTA"][:MAPS]
        scans = [reconstruct(models, "BTA", v, [v.num_slices // 2], transform, device) for v in volumes]
        null_space_maps(scans, self.output_dir / "hallucination.png")
