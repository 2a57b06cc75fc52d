"""The trained network where scans are made and read: an MRD server, and the hand-over to a DICOM router."""

from scripts.serving.delivery import Delivery
from scripts.serving.hand_over import HandOver, send
from scripts.serving.operation import set_up_logs
from scripts.serving.router import Router
from scripts.serving.server import MrdServer, load_model

__all__ = ["Delivery", "HandOver", "MrdServer", "Router", "load_model", "send", "set_up_logs"]
