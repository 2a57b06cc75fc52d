"""What every training uses, whatever it trains for: loss, handlers, run record, checkpoint, processes."""

from scripts.run.engines import loss_of
from scripts.training.batch_share import BatchShare
from scripts.training.checkpoint import Checkpoint
from scripts.training.handlers import ClipGradient, FiniteLoss, Progress, log_validation
from scripts.training.muon import Muon
from scripts.training.numerics import set_numerics
from scripts.training.pass_counter import PassCounter
from scripts.training.reconstruction_loss import ReconstructionLoss
from scripts.training.record import RunRecord
from scripts.training.schedule import conclude_training, model_name, steps_per_epoch

__all__ = [
    "BatchShare",
    "Checkpoint",
    "ClipGradient",
    "FiniteLoss",
    "Muon",
    "PassCounter",
    "Progress",
    "ReconstructionLoss",
    "RunRecord",
    "conclude_training",
    "log_validation",
    "loss_of",
    "model_name",
    "set_numerics",
    "steps_per_epoch",
]
