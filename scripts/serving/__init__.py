"""The trained network where scans are made and read: an MRD server, and delivery to archives."""

from scripts.serving.delivery import Delivery
from scripts.serving.server import MrdServer

__all__ = ["Delivery", "MrdServer"]
