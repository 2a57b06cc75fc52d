"""Evidence of forgetting: measures, gates and the verdict that follows from them."""

from scripts.audit.acquisitions import Acquisitions, other_masks
from scripts.audit.audit import Audit
from scripts.audit.continued import ContinuedTraining
from scripts.audit.cost import Cost
from scripts.audit.distances import OutputDistance, WeightDistance
from scripts.audit.earlier import EarlierRequests, Erosion
from scripts.audit.gates import project_gates
from scripts.audit.hallucination import Hallucination
from scripts.audit.inputs import audited_weights, check_cohorts, record_beside, training_steps
from scripts.audit.measure import Measure
from scripts.audit.membership import HaveYouForgotten, Membership
from scripts.audit.patients import Likelihood
from scripts.audit.probe import SliceProbe
from scripts.audit.provenance import AuditedFiles
from scripts.audit.quality import Distribution, OracleGap, OriginalGap, Recipe, RoundedGap, Subgroups
from scripts.audit.quantised import audited_models
from scripts.audit.relearning import Relearning
from scripts.audit.report import audit_section
from scripts.audit.resurfacing import Resurfacing
from scripts.audit.statistics import Statistics
from scripts.audit.treated import passes_alike

__all__ = [
    "Acquisitions",
    "Audit",
    "AuditedFiles",
    "ContinuedTraining",
    "Cost",
    "Distribution",
    "EarlierRequests",
    "Erosion",
    "Hallucination",
    "HaveYouForgotten",
    "Likelihood",
    "Measure",
    "Membership",
    "OracleGap",
    "OriginalGap",
    "OutputDistance",
    "Recipe",
    "Relearning",
    "Resurfacing",
    "RoundedGap",
    "SliceProbe",
    "Statistics",
    "Subgroups",
    "WeightDistance",
    "audit_section",
    "audited_models",
    "audited_weights",
    "check_cohorts",
    "other_masks",
    "passes_alike",
    "project_gates",
    "record_beside",
    "training_steps",
]
