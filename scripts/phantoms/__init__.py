"""Drawn and simulated scans: phantom data sets, and k-space simulated from magnitude images."""

from scripts.phantoms.generic import GenericSlices
from scripts.phantoms.mixed_phantom import mixed_phantom_datalist
from scripts.phantoms.phantom import phantom_datalist, phantom_images
from scripts.phantoms.simulation import Simulation

__all__ = ["GenericSlices", "Simulation", "mixed_phantom_datalist", "phantom_datalist", "phantom_images"]
