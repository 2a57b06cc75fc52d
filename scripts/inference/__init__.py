"""Reconstruction of raw data files with a trained network: readers, writers and the loop between them."""

from scripts.inference.fastmri_raw import FastMRIRaw
from scripts.inference.ismrmrd_raw import IsmrmrdRaw
from scripts.inference.model_identity import ModelIdentity, identify_model
from scripts.inference.open_raw import KspaceSlices, find_inputs, open_raw
from scripts.inference.reconstruct import reconstruct
from scripts.inference.volume_writer import VolumeWriter

__all__ = [
    "FastMRIRaw",
    "IsmrmrdRaw",
    "KspaceSlices",
    "ModelIdentity",
    "VolumeWriter",
    "find_inputs",
    "identify_model",
    "open_raw",
    "reconstruct",
]
