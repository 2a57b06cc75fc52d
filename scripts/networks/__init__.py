"""Reconstruction networks: undersampled k-space in, one magnitude image out."""

from scripts.networks.adapted import Adapted, ZeroFilled
from scripts.networks.checked import build_network, check_network, describe_network, may_leave_unused
from scripts.networks.precision import at_precision
from scripts.networks.unet import ReconUnet, Unet, compiled
from scripts.networks.varnet import VarNet
from scripts.networks.weights import check_fit, load_weights, save_weights

__all__ = [
    "Adapted",
    "ReconUnet",
    "Unet",
    "VarNet",
    "ZeroFilled",
    "at_precision",
    "build_network",
    "check_fit",
    "check_network",
    "compiled",
    "describe_network",
    "load_weights",
    "may_leave_unused",
    "save_weights",
]
