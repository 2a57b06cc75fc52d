"""Quality: how far the per-volume results of two models are apart, also where weights are rounded."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from scripts.audit.measure import (
    AUDITED,
    NO_ORACLE,
    NOT_MEASURED,
    ORACLE,
    ORIGINAL,
    QUANTISED,
    TREATED,
    Given,
    Measure,
    Statistics,
    not_measured,
    oracle_names,
    references,
    with_interval,
)
from scripts.evaluation.bootstrap import mean_with_interval, owners
from scripts.evaluation.comparison import load_models
from scripts.evaluation.metrics import METRICS
from scripts.evaluation.reconstruct import Models
from scripts.evaluation.results import Results
from scripts.evaluation.table import ABSENT, DECIMALS, HEADINGS, Table, number

Values = Sequence[float] | np.ndarray
COMPARED = r"(BTA|KTA|UA)/(psnr|ssim|nmse)/(gap|above|below)"
IDENTIFYING = ("patient_id", "kspace")
LEVELS = 127  # of int8 on either side of zero


def equivalence(differences: Values, patients: Sequence[str], margin: float) -> dict:
    """Two one-sided t-tests (TOST) that the mean difference lies within ±margin, on the means of patients.

    Args:
        differences: (n,), one a volume.
        patients: (n,); a volume with an empty one counts as a patient of its own.
        margin: The margin of equivalence, above 0, in the unit of the differences.

    Returns:
        ``{"margin", "p", "equivalent"}``: the larger p-value of the two tests, and whether it is below 0.05;
        both None with fewer than two patients.

    Source: Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987).

    >>> equivalence([0.01, 0.0, -0.01], ["a", "b", "c"], margin=0.1)["equivalent"]
    True
    """
    own = np.array(owners(patients))
    values = np.asarray(differences, dtype=np.float64)
    means = np.array([values[own == owner].mean() for owner in np.unique(own)])
    if len(means) < 2:
        return {"margin": margin, "p": None, "equivalent": None}
    if means.std() == 0:  # no spread, which a t-test cannot judge
        p = 0.0 if abs(means[0]) < margin else 1.0
    else:
        tests = ((-margin, "greater"), (margin, "less"))
        p = max(float(stats.ttest_1samp(means, bound, alternative=side).pvalue) for bound, side in tests)
    return {"margin": margin, "p": p, "equivalent": p < 0.05}


def gap(
    model: Values,
    references: Mapping[str, Values],
    patients: Sequence[str],
    statistics: Statistics,
    margin: float | None = None,
) -> dict:
    """Paired difference between a model and its references on the same volumes.

    Args:
        model: (n,), one value of a metric a volume.
        references: name -> (n,); the first is the reference, further ones (the same training with other seeds)
            give the band.
        patients: (n,) patient of each volume.
        statistics: The settings of the intervals.
        margin: The margin of the equivalence test to the first reference; None: no test.

    Returns:
        ``gap``: model minus first reference; ``above``: model minus the reference with the highest mean, which
        is positive only above the band; ``below``: model minus the one with the lowest; each ``{"value",
        "interval", "volumes", "patients"}``. ``band``: with three references or more, their means as
        ``{"low", "high", "references"}``, else None. ``equivalence``: see :func:`equivalence`.

    >>> result = gap([3.0, 3.0], {"oracle": [1.0, 1.0], "oracle 2": [2.0, 2.0]}, ["a", "b"], Statistics())
    >>> [result[name]["value"] for name in ("gap", "above", "below")]
    [2.0, 1.0, 2.0]
    """
    own = np.asarray(model, dtype=np.float64)
    differences = {name: own - np.asarray(values, dtype=np.float64) for name, values in references.items()}
    means = {name: float(np.mean(values)) for name, values in references.items()}
    chosen = {
        "gap": next(iter(references)),
        "above": max(means, key=lambda n: means[n]),
        "below": min(means, key=lambda n: means[n]),
    }
    result: dict = {
        part: mean_with_interval(differences[name], patients, **statistics.draw) for part, name in chosen.items()
    }
    low, high = min(means.values()), max(means.values())
    result["band"] = {"low": low, "high": high, "references": len(means)} if len(means) > 2 else None
    result["equivalence"] = None if margin is None else equivalence(differences[chosen["gap"]], patients, margin)
    return result


def gaps(results: Results, to: Sequence[str], statistics: Statistics, audited: str = AUDITED) -> dict:
    """Cohort -> metric -> :func:`gap` of a model to the references."""
    if not to:
        return NO_ORACLE
    table: dict = {}
    for cohort in results.cohorts:
        table[cohort] = {
            metric: gap(
                results.values(audited, cohort, metric),
                {name: results.values(name, cohort, metric) for name in to},
                results.patients(cohort),
                statistics,
                margin=statistics.equivalence.get(cohort) if metric == "psnr" else None,
            )
            for metric in METRICS
        }
    return table


def oracle_gaps(results: Results, statistics: Statistics, audited: str = AUDITED) -> dict:
    """:func:`gaps` of a model to what each cohort is judged by, see :func:`scripts.audit.measure.references`."""
    if ORACLE not in results.models:
        return NO_ORACLE
    return {c: gaps(results, references(results.models, c), statistics, audited)[c] for c in results.cohorts}


class OracleGap(Measure):
    """The gap to what each cohort is judged by: the oracle, on the forgotten kind the control; see :func:`gaps`."""

    name = "oracle_gap"
    title = "Gap to the oracle"
    gates = (COMPARED,)
    audited, controlled = AUDITED, True

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        return oracle_gaps(results, statistics, self.audited)

    def control(self, results: Results, statistics: Statistics) -> dict | None:
        return oracle_gaps(results, statistics, ORIGINAL) if self.controlled else None

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row a cohort and metric."""
        rows = [
            [
                f"{cohort} {HEADINGS[metric]}",
                with_interval(gap["gap"], DECIMALS[metric] + 1, True),
                _band(gap["band"], DECIMALS[metric]),
                _equivalence(gap["equivalence"]),
                f"{gap['gap']['volumes']} / {gap['gap']['patients']}",
            ]
            for cohort, metrics in entry.items()
            for metric, gap in metrics.items()
        ]
        columns = ["measure", f"mean difference [{share}]", "band of seeds", "equivalent (TOST)", "volumes / patients"]
        note = "Paired per volume; intervals by bootstrap over patients. A band needs three oracle seeds."
        return Table(cls.title, note, columns, rows)


class OriginalGap(OracleGap):
    """The gap to the original."""

    name = "original_gap"
    title = "Gap to the original"
    gates = (r"(BTA|KTA|UA)/(psnr|ssim|nmse)/gap",)
    controlled = False

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        return gaps(results, [ORIGINAL], statistics)


class RoundedGap(OracleGap):
    """The gap to the oracle of the audited model with weights rounded to int8: forgetting that this undoes was none."""

    name = "quantised"
    title = "Gap to the oracle, weights rounded to int8"
    audited, controlled = QUANTISED, False


def quantised(tensor: Tensor) -> Tensor:
    """A tensor rounded to the 255 values of symmetric int8, as floating point: s·round(x / s) with s = max|x| / 127.

    Source: Jacob et al., Quantization and Training of Neural Networks for Integer-Arithmetic-Only Inference, CVPR
    2018, symmetric and per tensor.

    Of a complex tensor both parts are rounded, with one s.

    >>> quantised(torch.tensor([127.0, 1.4, -0.6])).tolist()
    [127.0, 1.0, -1.0]
    """
    if tensor.is_complex():
        return torch.view_as_complex(quantised(torch.view_as_real(tensor)))
    scale = tensor.abs().max() / LEVELS
    return tensor if scale == 0 else (tensor / scale).round() * scale


def quantised_network(network: nn.Module) -> nn.Module:
    """A copy of a network whose weights (parameters of two dimensions or more) are quantised, each for itself.

    Source of the attack: Zhang et al., Catastrophic Failure of LLM Unlearning via Quantization, ICLR 2025 (arXiv
    2410.16454).
    """
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in copied.parameters():
            if parameter.ndim > 1 and (parameter.is_floating_point() or parameter.is_complex()):
                parameter.copy_(quantised(parameter))
    return copied


def audited_models(network: nn.Module, weights: Mapping[str, str | Path]) -> dict[str, nn.Module]:
    """The models of an audit: one for each file of weights, and the audited one quantised to int8.

    Args:
        network: Gives the architecture; it is left as it is.
        weights: model -> file, see :func:`scripts.audit.audited_weights`.
    """
    models = load_models(network, weights)
    return {**models, QUANTISED: quantised_network(models[AUDITED])}


class Recipe(Measure):
    """What the unlearning does to a network that never knew: the control less the oracle as it was trained.

    The result has ``alone``, that gap, and ``with_memory``, the gap of the audited model to the oracle as it was
    trained, which is shown and not judged; each as :func:`gaps`.
    """

    name = "recipe"
    title = "Control: the oracle after the same unlearning, less the oracle as it was trained"

    def measure(self, models: Models, results: Results, statistics: Statistics) -> dict:
        """See the class."""
        if TREATED not in results.models:
            return not_measured("no treated oracle that counts")
        oracles = oracle_names(results.models)
        return {"alone": gaps(results, oracles, statistics, TREATED), "with_memory": gaps(results, oracles, statistics)}

    @classmethod
    def table(cls, entry: Mapping, share: str) -> Table:
        """One row a cohort and metric."""
        alone, with_memory = entry["alone"], entry["with_memory"]
        rows = [
            [
                f"{c} {HEADINGS[m]}",
                *(with_interval(part[c][m]["gap"], DECIMALS[m] + 1, True) for part in (alone, with_memory)),
            ]
            for c in alone
            for m in alone[c]
        ]
        own, all_of_it = (part.get("KTA", part["UA"])["psnr"]["gap"]["value"] for part in (alone, with_memory))
        note = (
            f"The same unlearning moves a network that never saw the forget set by {number(own, 2, True)} dB on the "
            f"forgotten kind; so much of the audited model's {number(all_of_it, 2, True)} dB is its recipe and no "
            "memory. KTA and UA are judged by that control, BTA by the oracle as it was trained; the last column is "
            "shown and not judged."
        )
        return Table(cls.title, note, ["measure", f"treated oracle [{share}]", f"audited model [{share}]"], rows)


class Subgroups(Measure):
    """PSNR in each subgroup of each cohort, and the gap to the oracle (without one: to the original) in dB.

    Args:
        given: The audit's data and models.
        fields: Fields of the volumes whose values make the subgroups.

    Raises:
        ValueError: fields that would put identifiers of patients into the result.
    """

    name = "subgroups"
    title = "Subgroups"

    def __init__(self, given: Given, fields: Sequence[str] = ("anatomy", "acquisition")) -> None:
        super().__init__(given)
        found = sorted(set(fields) & set(IDENTIFYING))
        if found:
            raise ValueError(
                f"audit: 'subgroups': expected fields that name no patient or file, found {', '.join(found)}"
            )
        self.fields = list(fields)

    def measure(self, models: Models, results: Results, statistics: Statistics) -> list[dict]:
        """See the class."""
        rows = []
        for cohort in results.cohorts:
            reference = (references(results.models, cohort) or [ORIGINAL])[0]
            of = {volume.name: volume.fields for volume in self.given.cohorts[cohort]}
            for name in self.fields:
                groups = np.array([of[volume].get(name, "") for volume in results.volumes(cohort)])
                for group in sorted(set(groups) - {""}):
                    chosen = groups == group
                    patients = [p for p, keep in zip(results.patients(cohort), chosen, strict=True) if keep]
                    audited, other = (results.values(model, cohort, "psnr")[chosen] for model in (AUDITED, reference))
                    difference = mean_with_interval(audited - other, patients, **statistics.draw)
                    row = {"cohort": cohort, "field": name, "group": str(group), "reference": reference}
                    rows.append({**row, "psnr": float(audited.mean()), "gap": difference})
        return rows

    @classmethod
    def table(cls, entry: Sequence[Mapping], share: str) -> Table:
        """One row a subgroup."""
        rows = [
            [
                f"{row['cohort']}: {row['field']} {row['group']}",
                str(row["gap"]["volumes"]),
                number(row["psnr"]),
                f"{with_interval(row['gap'], 2, True)} to {row['reference']}",
            ]
            for row in entry
        ]
        note = "PSNR in dB; subgroups of few volumes say little." if rows else "No subgroup field has a value."
        return Table(cls.title, note, ["subgroup", "volumes", "PSNR", f"difference [{share}]"], rows)


def _band(band: Mapping | None, digits: int) -> str:
    return ABSENT if band is None else f"{number(band['low'], digits)} … {number(band['high'], digits)}"


def _equivalence(test: Mapping | None) -> str:
    if test is None:
        return ABSENT
    if test["p"] is None:
        return NOT_MEASURED
    return f"{'yes' if test['equivalent'] else 'no'} (±{test['margin']} dB, p = {test['p']:.3f})"
