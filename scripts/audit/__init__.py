"""Evidence of forgetting: measures, gates and the verdict that follows from them."""

from scripts.audit.audit import Audit
from scripts.audit.inputs import audited_weights, check_cohorts, record_beside
from scripts.audit.probe import SliceProbe
from scripts.audit.provenance import AuditedFiles
from scripts.audit.relearning import Relearning
from scripts.audit.section import audit_section
from scripts.audit.statistics import Statistics

__all__ = [
    "Audit",
    "AuditedFiles",
    "Relearning",
    "SliceProbe",
    "Statistics",
    "audit_section",
    "audited_weights",
    "check_cohorts",
    "record_beside",
]
