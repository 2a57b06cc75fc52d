"""What became of the requests before this one, and of those who stay, along the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.audit.measure import (
    AUDITED,
    NOT_MEASURED,
    ORIGINAL,
    Given,
    Measure,
    Sampled,
    Statistics,
    highest,
    is_measured,
    not_measured,
    references,
    with_interval,
)
from scripts.audit.quality import gap
from scripts.evaluation.bootstrap import mean_with_interval
from scripts.evaluation.reconstruct import Models, measure_models
from scripts.evaluation.results import Results
from scripts.evaluation.table import Table, number
from scripts.requests import lineage
from scripts.requests.ledger import Ledger

EROSION = "erosion/total"  # what its gate reads


def earlier_requests(results: Results, statistics: Statistics) -> dict:
    """Where the scans of earlier requests stand now.

    Args:
        results: PSNR of the audited weights, of those before this request (``G``) and of the oracles, if there are any;
            each earlier request is a cohort.
        statistics: The settings of the intervals.

    Returns:
        ``requests``: request -> ``psnr`` (dB), ``rise``, by how much this request has raised it, and ``above``, the
        difference to the oracle that scores highest, both in dB with intervals over patients; ``highest``: the highest
        ``rise`` and ``above`` with the name of their request.
    """
    oracles = references(results.models)
    found: dict[str, dict[str, Any]] = {}
    for request in results.cohorts:
        audited, before = (results.values(model, request, "psnr") for model in (AUDITED, ORIGINAL))
        patients = results.patients(request)
        known = {name: results.values(name, request, "psnr") for name in oracles}
        found[request] = {
            "scans": len(audited),
            "psnr": float(audited.mean()),
            "rise": mean_with_interval(audited - before, patients, **statistics.draw),
            "above": gap(audited, known, patients, statistics)["above"] if oracles else not_measured("no oracle"),
        }
    above = {name: entry["above"] for name, entry in found.items()}
    most = {
        "rise": highest({name: entry["rise"] for name, entry in found.items()}, "request"),
        "above": highest(above, "request") if oracles else not_measured("no oracle"),
    }
    return {"requests": found, "highest": most}


class EarlierRequests(Sampled):
    """Reconstructs the scans of earlier requests with the audited weights, those before them, and the oracles.

    In the result the requests have numbers.
    """

    name = "earlier"
    title = "Earlier requests: where their scans stand now"
    gates = (r"highest/(above|rise)",)

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.groups = {f"earlier {i}": volumes for i, volumes in enumerate(given.earlier.values(), start=1)}

    def compared(self, models: Models) -> Models:
        """The audited weights, those before them, and the oracles."""
        return {name: models[name] for name in (AUDITED, ORIGINAL, *references(models))}

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        if not self.groups:
            return not_measured("the ledger knows no earlier request, or the datalist no scan of one")
        compared, chosen = self.compared(models), self.chosen(models)
        found = measure_models(compared, chosen, self.given.transform, self.given.device)
        return earlier_requests(Results(found), statistics)

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row a request."""
        rows = [
            [
                request,
                str(found["scans"]),
                number(found["psnr"]),
                *(with_interval(found[k], 2, True) for k in ("rise", "above")),
            ]
            for request, found in entry["requests"].items()
        ]
        columns = ["request", "scans", "PSNR [dB]", f"rise by this request [{share}]", f"above the oracle [{share}]"]
        return Table(cls.title, "Scans that earlier requests erased, as far as the datalist names them.", columns, rows)


class Erosion(Measure):
    """What the requests so far have cost those who stay, by the records that the ledger names."""

    name = "erosion"
    title = "What stays, from the original on"
    gates = ("total",)

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        """``steps``: ``line`` of the ledger, ``change`` in dB and ``why`` it is not known, see
        :class:`scripts.requests.lineage.Step`; ``total`` in dB, a sum of means and so without width.
        """
        ledger = self.given.ledger
        steps = lineage.erosion(Ledger(str(ledger)), self.given.weights[AUDITED]) if ledger else []
        if not steps:
            return not_measured("no ledger that knows these weights")
        shown = [{"line": step.line, "change": step.change, "why": step.why} for step in steps]
        total = lineage.total(steps)
        if total is None:
            unknown = [f"line {step.line}: {step.why}" for step in steps if step.change is None]
            return {"steps": shown, "total": not_measured("; ".join(unknown))}
        return {"steps": shown, "total": {"value": total, "interval": [total, total]}}

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row a request."""
        rows = [
            [f"line {step['line']}", step["why"] if step["change"] is None else number(step["change"], 2, True)]
            for step in entry["steps"]
        ]
        rows.append(
            ["together", with_interval(entry["total"], 2, True) if is_measured(entry["total"]) else NOT_MEASURED]
        )
        note = "Mean PSNR of each run's own retain test scans, after less before, by the records that the ledger names."
        return Table(cls.title, note, ["request, by the ledger's line", "change [dB]"], rows)


def advice(gates: Sequence[Mapping[str, Any]]) -> str | None:
    """What to do where the gate on the erosion fails, by the judged gates; None where it does not."""
    for gate in gates:
        if gate["measure"] == EROSION and gate["verdict"] == "fail":
            return lineage.advice("LEDGER", -gate["value"], -gate["at_least"])
    return None
