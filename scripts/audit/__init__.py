"""Evidence of forgetting: measures, gates and the verdict that follows from them."""

from scripts.audit import (  # noqa: F401 each measure makes itself known by its name
    earlier,
    hallucination,
    images,
    membership,
    patients,
    quality,
    relearning,
    resurfacing,
)
from scripts.audit.audit import Audit
from scripts.audit.gates import project_gates
from scripts.audit.inputs import audited_weights, check_cohorts, record_beside
from scripts.audit.measure import Given, Measure, Statistics
from scripts.audit.quality import audited_models
from scripts.audit.report import audit_section
from scripts.audit.treated import passes_alike

__all__ = [
    "Audit",
    "Given",
    "Measure",
    "Statistics",
    "audit_section",
    "audited_models",
    "audited_weights",
    "check_cohorts",
    "passes_alike",
    "project_gates",
    "record_beside",
]
