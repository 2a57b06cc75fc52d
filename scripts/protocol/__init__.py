"""The paper's study in one command: cells, tables, figures and the report."""

from scripts.protocol.study import Study

__all__ = ["Study"]
