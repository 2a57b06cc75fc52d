"""Metrics, tables and pictures that say how models compare."""

from scripts.evaluation.comparison import Comparison, check_models, load_models, oracle_beside
from scripts.evaluation.figures import batch_images, output_images
from scripts.evaluation.report import write_report
from scripts.evaluation.volume_metrics import MeanOverVolumes, VolumeMetrics
from scripts.evaluation.watch import Watch

__all__ = [
    "Comparison",
    "MeanOverVolumes",
    "VolumeMetrics",
    "Watch",
    "batch_images",
    "check_models",
    "load_models",
    "oracle_beside",
    "output_images",
    "write_report",
]
