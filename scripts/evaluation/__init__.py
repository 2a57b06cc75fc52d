"""Metrics, tables and pictures that say how models compare."""

from scripts.evaluation.comparison import Comparison, check_models, load_models, oracle_beside
from scripts.evaluation.figures import batch_images, output_images
from scripts.evaluation.volume_metrics import MeanOverVolumes, VolumeMetrics

__all__ = [
    "Comparison",
    "MeanOverVolumes",
    "VolumeMetrics",
    "batch_images",
    "check_models",
    "load_models",
    "oracle_beside",
    "output_images",
]
