"""The paper's study in one command: cells, tables, figures and the report."""

from scripts.protocol.cells import Context
from scripts.protocol.plan import Plan
from scripts.protocol.report import Report
from scripts.protocol.study import Study

__all__ = ["Context", "Plan", "Report", "Study"]
