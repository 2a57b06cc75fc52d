"""What became of the requests before this one, and of those who stay, along the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from scripts.audit.experiment import AUDITED, ORIGINAL, Observed, references
from scripts.audit.gaps import gap
from scripts.audit.statistics import Statistics, not_measured
from scripts.data.volumes import Volume
from scripts.evaluation.bootstrap import mean_with_interval
from scripts.evaluation.reconstruct import Models, measure_models, spread
from scripts.evaluation.results import Results
from scripts.requests import erosion
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
    oracles, found = references(results.models), {}
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
    highest = {"rise": _highest(found, "rise")}
    highest["above"] = _highest(found, "above") if oracles else not_measured("no oracle")
    return {"requests": found, "highest": highest}


def _highest(found: Mapping[str, Mapping], what: str) -> dict:
    request = max(found, key=lambda name: found[name][what]["value"])
    return {**found[request][what], "request": request}


class EarlierRequests:
    """Reconstructs the scans of earlier requests with the audited weights, those before them, and the oracles.

    Args:
        requests: Request -> its scans, as far as the datalist still names them; in the result they have numbers.
        transform: Undersamples a slice, see :class:`scripts.data.Undersample`.
        limit: The most slices that the measure may put through a network.
        device: Where to run the networks.
    """

    name = "earlier"

    def __init__(
        self,
        requests: Mapping[str, Sequence[Volume]],
        transform: Callable[[dict], dict],
        limit: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.requests = {f"earlier {i}": volumes for i, volumes in enumerate(requests.values(), start=1)}
        self.transform, self.limit, self.device = transform, limit, device
        self.seen: Observed = {}  # a certificate states no scan of earlier requests

    def settings(self) -> dict[str, Any]:
        """See :class:`scripts.audit.experiment.Experiment`."""
        return {"limit": self.limit}

    def slices(self, models: Models) -> int:
        """See :class:`scripts.audit.experiment.Experiment`."""
        return sum(map(len, self._chosen(models).values())) * len(self._compared(models))

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        """See :func:`earlier_requests`."""
        if not self.requests:
            return not_measured("the ledger knows no earlier request, or the datalist no scan of one")
        found = measure_models(self._compared(models), self._chosen(models), self.transform, self.device)
        return earlier_requests(Results(found), statistics)

    def _compared(self, models: Models) -> Models:
        return {name: models[name] for name in (AUDITED, ORIGINAL, *references(models))}

    def _chosen(self, models: Models) -> dict[str, list[tuple[Volume, int]]]:
        shares = max(len(self._compared(models)) * len(self.requests), 1)
        return {name: spread(volumes, max(self.limit // shares, 1)) for name, volumes in self.requests.items()}


class Erosion:
    """What the requests so far have cost those who stay, by the records that the ledger names.

    Args:
        ledger: The file; None or False: not measured.
        weights: The audited weights.
    """

    name = "erosion"

    def __init__(self, ledger: str | Path | None, weights: str | Path) -> None:
        self.ledger, self.weights = ledger, weights
        self.seen: Observed = {}

    def settings(self) -> dict[str, Any]:
        """See :class:`scripts.audit.experiment.Experiment`: none."""
        return {}

    def slices(self, models: Models) -> int:
        """See :class:`scripts.audit.experiment.Experiment`: none, since it reads records."""
        return 0

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        """``steps``: ``line`` of the ledger, ``change`` in dB and ``why`` it is not known, see
        :class:`scripts.requests.erosion.Step`; ``total`` in dB, a sum of means and so without width.
        """
        steps = erosion.erosion(Ledger(self.ledger), self.weights) if self.ledger else []
        if not steps:
            return not_measured("no ledger that knows these weights")
        shown = [{"line": step.line, "change": step.change, "why": step.why} for step in steps]
        total = erosion.total(steps)
        if total is None:
            unknown = [f"line {step.line}: {step.why}" for step in steps if step.change is None]
            return {"steps": shown, "total": not_measured("; ".join(unknown))}
        return {"steps": shown, "total": {"value": total, "interval": [total, total]}}


def advice(gates: Sequence[Mapping[str, Any]]) -> str | None:
    """What to do where the gate on the erosion fails, by the judged gates; None where it does not."""
    for gate in gates:
        if gate["measure"] == EROSION and gate["verdict"] == "fail":
            return erosion.advice("LEDGER", -gate["value"], -gate["at_least"])
    return None
