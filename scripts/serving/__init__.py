"""The trained network where scans are made and read: an MRD server, and delivery to archives."""

from scripts.serving.archives import CStoreArchive, StowArchive
from scripts.serving.commitment import Commitment
from scripts.serving.delivery import Delivery
from scripts.serving.outbox import Outbox
from scripts.serving.send import send
from scripts.serving.server import MrdServer

__all__ = ["CStoreArchive", "Commitment", "Delivery", "MrdServer", "Outbox", "StowArchive", "send"]
