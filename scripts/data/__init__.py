"""Real scans: volumes, masks, datalists, slices and loaders."""

from scripts.data.augment import Augment
from scripts.data.checks import check_batches, check_volumes
from scripts.data.loaders import EndlessBatches, EvaluationLoader, TrainingLoader
from scripts.data.slices import SliceDataset, Undersample, prepare_batch
from scripts.data.volumes import Volume, inspect_volume, read_slice, write_volume
from scripts.kspace.masks import EquispacedFractionMask, EquispacedMask, RandomMask

__all__ = [
    "Augment",
    "EndlessBatches",
    "EquispacedFractionMask",
    "EquispacedMask",
    "EvaluationLoader",
    "RandomMask",
    "SliceDataset",
    "TrainingLoader",
    "Undersample",
    "Volume",
    "check_batches",
    "check_volumes",
    "inspect_volume",
    "prepare_batch",
    "read_slice",
    "write_volume",
]
