"""Handlers that every training uses, whatever it trains for."""

from scripts.training.clip_gradient import ClipGradient
from scripts.training.finite_loss import FiniteLoss
from scripts.training.pass_counter import PassCounter
from scripts.training.progress import Progress

__all__ = ["ClipGradient", "FiniteLoss", "PassCounter", "Progress"]
