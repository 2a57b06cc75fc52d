"""What every verb does around its work: begin and end, settings, folder, files, errors."""

from scripts.run import errors
from scripts.run.config import bundle_root
from scripts.run.console import command_of, tell
from scripts.run.folder import RunFolder
from scripts.run.guide import describe_bundle
from scripts.run.processes import device
from scripts.run.source import results_in, results_of
from scripts.run.start import (
    begin,
    check_run,
    finish,
    open_run,
    opened_scans,
    report_reader,
    report_weights,
    weights_read,
)

__all__ = [
    "RunFolder",
    "begin",
    "bundle_root",
    "check_run",
    "command_of",
    "describe_bundle",
    "device",
    "errors",
    "finish",
    "open_run",
    "opened_scans",
    "report_reader",
    "report_weights",
    "results_in",
    "results_of",
    "tell",
    "weights_read",
]
