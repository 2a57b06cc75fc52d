"""Evidence of forgetting: measures, gates and the verdict that follows from them."""

from scripts.audit.acquisitions import Acquisitions, other_masks
from scripts.audit.audit import Audit
from scripts.audit.continued import ContinuedTraining
from scripts.audit.distances import OutputDistance
from scripts.audit.earlier import EarlierRequests, Erosion
from scripts.audit.inputs import audited_weights, check_cohorts, record_beside, training_steps
from scripts.audit.patients import Likelihood
from scripts.audit.probe import SliceProbe
from scripts.audit.provenance import AuditedFiles
from scripts.audit.quantised import audited_models
from scripts.audit.relearning import Relearning
from scripts.audit.resurfacing import Resurfacing
from scripts.audit.section import audit_section
from scripts.audit.short import audit_after
from scripts.audit.statistics import Statistics
from scripts.audit.treated import passes_alike

__all__ = [
    "Acquisitions",
    "Audit",
    "AuditedFiles",
    "ContinuedTraining",
    "EarlierRequests",
    "Erosion",
    "Likelihood",
    "OutputDistance",
    "Relearning",
    "Resurfacing",
    "SliceProbe",
    "Statistics",
    "audit_after",
    "audit_section",
    "audited_models",
    "audited_weights",
    "check_cohorts",
    "other_masks",
    "passes_alike",
    "record_beside",
    "training_steps",
]
