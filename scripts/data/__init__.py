"""Volumes, masks, datalists, forget requests and phantoms."""

from scripts.data.checks import check_volumes
from scripts.data.cohorts import Cohorts
from scripts.data.forget_request import ForgetRequest
from scripts.data.loaders import EndlessBatches, EvaluationLoader, TrainingLoader
from scripts.data.masks import EquispacedFractionMask, EquispacedMask, RandomMask, make_mask
from scripts.data.mixed_phantom import mixed_phantom_datalist
from scripts.data.phantom import phantom_datalist, phantom_images
from scripts.data.retain_subset import RetainSubsetSampler, draw_retain_subset
from scripts.data.simulation import simulate
from scripts.data.slices import SliceDataset, Undersample, prepare_batch
from scripts.data.volumes import Volume, inspect_volume, read_slice, write_volume

__all__ = [
    "Cohorts",
    "EndlessBatches",
    "EquispacedFractionMask",
    "EquispacedMask",
    "EvaluationLoader",
    "ForgetRequest",
    "RandomMask",
    "RetainSubsetSampler",
    "SliceDataset",
    "TrainingLoader",
    "Undersample",
    "Volume",
    "check_volumes",
    "draw_retain_subset",
    "inspect_volume",
    "make_mask",
    "mixed_phantom_datalist",
    "phantom_datalist",
    "phantom_images",
    "prepare_batch",
    "read_slice",
    "simulate",
    "write_volume",
]
