"""What has to go, what stays, which part of what stays is read, and what was ever erased."""

from scripts.requests.cohorts import Cohorts, run_folder
from scripts.requests.forget_request import ForgetRequest
from scripts.requests.in_words import conclude_preview, describe_request
from scripts.requests.ledger import find_ledger, ledger_of
from scripts.requests.ledger_entry import LedgerEntry, enter_audit, enter_training
from scripts.requests.lineage import check_newest, compared, trained_by, warn_of_erosion
from scripts.requests.retain_subset import RetainSubsetSampler, draw_patients

__all__ = [
    "Cohorts",
    "ForgetRequest",
    "LedgerEntry",
    "RetainSubsetSampler",
    "check_newest",
    "compared",
    "conclude_preview",
    "describe_request",
    "draw_patients",
    "enter_audit",
    "enter_training",
    "find_ledger",
    "ledger_of",
    "run_folder",
    "trained_by",
    "warn_of_erosion",
]
