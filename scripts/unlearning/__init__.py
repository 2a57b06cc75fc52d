"""Unlearning methods: Ignite handlers for MONAI's SupervisedTrainer, one class each."""

from scripts.unlearning.data import AugmentedSlices, EncoderFeatures
from scripts.unlearning.mirror import MirrorImage, MirrorTarget
from scripts.unlearning.prior import Prior
from scripts.unlearning.replay import describe_replay, replay
from scripts.unlearning.restart import Restart, forgetting, make_prior
from scripts.unlearning.schedule import FastTraining, NoTraining, epoch_length
from scripts.unlearning.summary import check_run, conclude
from scripts.unlearning.targets import GainTarget, GainTerm, TargetPerScan
from scripts.unlearning.teachers import BlindTeacher, Original
from scripts.unlearning.terms import (
    Blindspot,
    ForgetTerm,
    GradientAscent,
    L1Penalty,
    NoisyLabel,
    PsnrTerm,
    RetainDistillation,
    Scrub,
)
from scripts.unlearning.weights import Perturb, Rewind, SynapticDampening, WeightAverage

__all__ = [
    "AugmentedSlices",
    "BlindTeacher",
    "Blindspot",
    "EncoderFeatures",
    "FastTraining",
    "ForgetTerm",
    "GainTarget",
    "GainTerm",
    "GradientAscent",
    "L1Penalty",
    "MirrorImage",
    "MirrorTarget",
    "NoTraining",
    "NoisyLabel",
    "Original",
    "Perturb",
    "Prior",
    "PsnrTerm",
    "Restart",
    "RetainDistillation",
    "Rewind",
    "Scrub",
    "SynapticDampening",
    "TargetPerScan",
    "WeightAverage",
    "check_run",
    "conclude",
    "describe_replay",
    "epoch_length",
    "forgetting",
    "make_prior",
    "replay",
]
