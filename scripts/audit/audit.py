"""The audit: every measure, every gate, one verdict, written as JSON, Markdown, HTML and pictures."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from scripts.audit import measures
from scripts.audit.cost import cost
from scripts.audit.distances import linear_cka, weight_distance
from scripts.audit.gates import check_gates, control, judge, overall
from scripts.audit.inputs import check_cohorts, check_subgroups, read_record, record_beside
from scripts.audit.maps import null_space_maps
from scripts.audit.measures import AUDITED, CALIBRATION, NO_ORACLE, ORACLE, ORIGINAL, QUERY, Statistics, oracles
from scripts.audit.not_measured import not_measured
from scripts.audit.probe import SliceProbe
from scripts.audit.provenance import SETTINGS, AuditedFiles, doubts, lineage, origin, provenance_problems, weights_entry
from scripts.audit.relearning import Relearning, relearning_ratio
from scripts.audit.results import Results
from scripts.audit.section import audit_page
from scripts.audit.tables import audit_markdown
from scripts.evaluation import Comparison
from scripts.files import atomic_write, file_sha256
from scripts.run_config import running_config
from scripts.training.file_hashes import FileHashes
from scripts.training.record import environment

VERSION = "1.0"
GUARANTEE = (
    "There is no formal guarantee that the influence of the forget set was removed. The figures are empirical: they "
    "hold for these weights, these scans and these measures, and another attack may find what these did not."
)
MAPS = 2  # scans whose null-space maps are drawn
logger = logging.getLogger(__name__)


class Audit:
    """Runs the comparison once, derives every measure from it, judges the gates and writes the outputs.

    Args:
        comparison: evaluates every model on BTA, KTA and UA; its models hold ``G`` and ``unlearned`` and may hold
            ``oracle``, ``oracle 2`` …, ``query`` and ``calibration``.
        probe: attached to the comparison's evaluator.
        relearning: trains copies on the forget set.
        gates: declared acceptance gates, see :func:`scripts.audit.gates.judge`.
        files: weights as loaded into the comparison's models, datalist, and the unlearning run's record, without
            which cost is not measured.
        statistics: of intervals and equivalence tests.
        subgroups: fields of the volumes whose values make the subgroups.
        oracle_tuned: whether the method's settings were chosen by looking at the oracle; None: not stated.

    Raises:
        FileNotFoundError, ValueError: before work starts, naming file or field.
    """

    def __init__(
        self,
        comparison: Comparison,
        probe: SliceProbe,
        relearning: Relearning,
        gates: Sequence[Mapping],
        files: AuditedFiles,
        statistics: Statistics | None = None,
        subgroups: Sequence[str] = (),
        oracle_tuned: bool | None = None,
    ) -> None:
        check_gates(gates)
        check_subgroups(subgroups)
        check_cohorts(comparison.cohorts)
        self.comparison, self.probe, self.relearning = comparison, probe, relearning
        self.gates = [dict(gate) for gate in gates]
        weights, record = files.weights, files.record
        self.files = files
        self.record = read_record(record, weights[AUDITED])
        self.training_path = record_beside(weights[ORIGINAL])
        self.training = read_record(self.training_path, weights[ORIGINAL])
        self.lineages = {
            name: lineage(path, record if name == AUDITED else None)
            for name, path in weights.items()
            if name not in (QUERY, CALIBRATION) and (record or name != AUDITED)
        }
        self.statistics = statistics or Statistics()
        self.subgroups = list(subgroups)
        self.oracle_tuned = oracle_tuned
        self.output_dir = Path(comparison.output_dir)

    def run(self) -> dict:
        """Write ``audit.json``, ``audit.md``, ``audit.html``, ``hallucination.png`` and the comparison's files.

        Returns:
            The content of ``audit.json``.
        """
        hashes = FileHashes(v.path for volumes in self.comparison.cohorts.values() for v in volumes)
        summary = self.comparison.run()
        results = Results.read(self.output_dir / "metrics.csv")
        found = self._measures(results)
        self._draw()
        judged = [judge(gate, found) for gate in self.gates]
        checked = control(self.gates, self._control_measures(results))
        weights = {name: weights_entry(path) for name, path in self.files.weights.items()}
        provenance = self._provenance(hashes, weights)
        result = {
            "version": VERSION,
            "verdict": overall(judged, checked["sees_remembering"], doubts(provenance["problems"])),
            "statement": GUARANTEE,
            "gates": judged,
            "control": checked,
            "declared": {
                "gates": self.gates,
                "confidence": self.statistics.confidence,
                "bootstrap_samples": self.statistics.samples,
                "seed": self.statistics.seed,
                "equivalence_margins": dict(self.statistics.equivalence),
                "oracle_tuned": self.oracle_tuned,
            },
            "models": summary,
            "measures": found,
            "provenance": provenance,
            "inputs": {
                "weights": weights,
                "records": {
                    name: [{"path": str(path), "sha256": file_sha256(path)} for path in records]
                    for name, records in self.lineages.items()
                },
            },
            "pictures": ["hallucination.png", "panels.png"],
            "device": str(self.comparison.evaluator.state.device),
            "environment": environment(),
            "configuration": running_config(),
        }
        self._write("audit.json", json.dumps(result, indent=2, allow_nan=False))
        self._write("audit.md", audit_markdown(result))
        self._write("audit.html", audit_page(result))
        logger.info("verdict: %s\n\n%s\n", result["verdict"]["verdict"], audit_markdown(result))
        return result

    def _measures(self, results: Results) -> dict:
        names = list(self.comparison.models)
        runs = dict(zip(names, self.probe.runs[-len(names) :], strict=True))
        patients = {v.name: v.patient_id for volumes in self.comparison.cohorts.values() for v in volumes}
        return {
            "oracle_gap": measures.gaps(results, oracles(results), self.statistics),
            "original_gap": measures.gaps(results, [ORIGINAL], self.statistics),
            "distribution": measures.distributions(results),
            "membership": measures.membership(results, self.statistics),
            "have_you_forgotten": measures.have_you_forgotten(results),
            "relearning": self._relearning(results),
            "hallucination": measures.hallucination(
                {name: run["null_space"] for name, run in runs.items() if name not in (QUERY, CALIBRATION)},
                patients,
                self.statistics,
            ),
            "distance": self._distance(runs),
            "subgroups": measures.subgroups(results, self.comparison.cohorts, self.subgroups, self.statistics),
            "cost": cost(self.record, self.training),
        }

    def _provenance(self, hashes: FileHashes, weights: Mapping[str, Mapping[str, str]]) -> dict:
        """Origin of the models, the audit's own data and settings, and what speaks against them."""
        configuration = running_config()
        evaluated = {c: sorted(map(str, (hashes[v.path] for v in vs))) for c, vs in self.comparison.cohorts.items()}
        audit = {
            "datalist": file_sha256(self.files.datalist),
            **{name: configuration.get(name) for name in SETTINGS},
            "data": {"forget": evaluated["UA"]},
            "evaluated": evaluated,
        }
        runs = {name: origin(records) for name, records in self.lineages.items()}
        return {"runs": runs, "audit": audit, "problems": provenance_problems(runs, audit, weights)}

    def _control_measures(self, results: Results) -> dict:
        return {
            "oracle_gap": measures.gaps(results, oracles(results), self.statistics, audited=ORIGINAL),
            "membership": measures.membership(results, self.statistics, audited=ORIGINAL),
        }

    def _relearning(self, results: Results) -> dict:
        if not self.relearning.max_steps:
            return not_measured("turned off (relearning_steps: 0)")
        if "KTA" not in results.cohorts:
            return not_measured("no volumes in KTA")
        goal = float(results.values(ORIGINAL, "KTA", "psnr").mean()) * (1 - self.relearning.tolerance)
        curves = {
            name: self.relearning.curve(self.comparison.models[name], goal)
            for name in (AUDITED, ORACLE)
            if name in self.comparison.models
        }
        ratio = relearning_ratio(curves[AUDITED], curves.get(ORACLE, []), goal)
        return {**ratio, "max_steps": self.relearning.max_steps, "curves": curves}

    def _distance(self, runs: Mapping[str, Mapping]) -> dict:
        models = self.comparison.models
        table: dict = {}
        for reference in (ORIGINAL, ORACLE):
            if reference not in models:
                table[reference] = NO_ORACLE
                continue
            states = (models[name].state_dict() for name in (AUDITED, reference))
            table[reference] = {"weights": weight_distance(*states), "cka": {}}
            for cohort in ("BTA", "KTA"):
                volumes = [volume.name for volume in self.comparison.cohorts.get(cohort, [])]
                if volumes and all(volume in runs[AUDITED]["features"] for volume in volumes):
                    pair = (torch.cat([runs[name]["features"][v] for v in volumes]) for name in (AUDITED, reference))
                    table[reference]["cka"][cohort] = linear_cka(*pair)
        return table

    def _draw(self) -> None:
        shown = {name: m for name, m in self.comparison.models.items() if name not in (QUERY, CALIBRATION)}
        evaluator = self.comparison.evaluator
        null_space_maps(
            self.comparison.cohorts["BTA"][:MAPS],
            shown,
            evaluator.data_loader.dataset.transform,
            self.output_dir / "hallucination.png",
            evaluator.state.device,
        )

    def _write(self, name: str, text: str) -> None:
        with atomic_write(self.output_dir / name) as temporary:
            Path(temporary).write_text(text.rstrip("\n") + "\n", encoding="utf-8")
