"""Handlers that every training uses, whatever it trains for."""

from scripts.training.batch_share import BatchShare
from scripts.training.checkpoint import Checkpoint
from scripts.training.clip_gradient import ClipGradient
from scripts.training.finite_loss import FiniteLoss
from scripts.training.pass_counter import PassCounter
from scripts.training.progress import Progress

__all__ = ["BatchShare", "Checkpoint", "ClipGradient", "FiniteLoss", "PassCounter", "Progress"]
