"""Reconstruction networks: undersampled k-space in, one magnitude image out."""

from scripts.networks.compiled import compiled
from scripts.networks.precision import at_precision, loss_scaling
from scripts.networks.unet import ReconUnet, Unet
from scripts.networks.varnet import VarNet
from scripts.networks.weights import check_fit, load_weights, save_weights
from scripts.networks.zero_filled import ZeroFilled

__all__ = [
    "ReconUnet",
    "Unet",
    "VarNet",
    "ZeroFilled",
    "at_precision",
    "check_fit",
    "compiled",
    "load_weights",
    "loss_scaling",
    "save_weights",
]
