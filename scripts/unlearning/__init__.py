"""Unlearning methods: Ignite handlers for MONAI's SupervisedTrainer, one class each."""

from scripts.unlearning.data import AugmentedSlices, EncoderFeatures
from scripts.unlearning.mirror import MirrorImage, MirrorTarget
from scripts.unlearning.prior import Prior
from scripts.unlearning.replay import describe_replay, replay
from scripts.unlearning.restart import Restart, forgetting
from scripts.unlearning.schedule import Anneal, FastTraining, NoTraining, epoch_length
from scripts.unlearning.steps import GradientProjection, MaskedReinit, SaliencyMask
from scripts.unlearning.summary import check_run, conclude
from scripts.unlearning.targets import GainTarget, GainTerm, TargetPerScan
from scripts.unlearning.teachers import BlindTeacher, Original
from scripts.unlearning.terms import (
    Blindspot,
    BoundedAscent,
    ForgetTerm,
    GradientAscent,
    L1Penalty,
    LossTarget,
    NoisyLabel,
    PsnrTerm,
    RetainDistillation,
    Scrub,
    TeacherTerm,
)
from scripts.unlearning.weights import Perturb, Rewind, SynapticDampening, TaskNegation, WeightAverage

__all__ = [
    "Anneal",
    "AugmentedSlices",
    "BlindTeacher",
    "Blindspot",
    "BoundedAscent",
    "EncoderFeatures",
    "FastTraining",
    "ForgetTerm",
    "GainTarget",
    "GainTerm",
    "GradientAscent",
    "GradientProjection",
    "L1Penalty",
    "LossTarget",
    "MaskedReinit",
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
    "SaliencyMask",
    "Scrub",
    "SynapticDampening",
    "TargetPerScan",
    "TaskNegation",
    "TeacherTerm",
    "WeightAverage",
    "check_run",
    "conclude",
    "describe_replay",
    "epoch_length",
    "forgetting",
    "replay",
]
