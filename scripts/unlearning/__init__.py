"""Unlearning methods: Ignite handlers for MONAI's SupervisedTrainer, one class each."""

from scripts.unlearning.anneal import Anneal
from scripts.unlearning.augmented_slices import AugmentedSlices
from scripts.unlearning.blind_teacher import BlindTeacher
from scripts.unlearning.blindspot import Blindspot
from scripts.unlearning.block_healing import BlockHealing
from scripts.unlearning.bounded_ascent import BoundedAscent
from scripts.unlearning.budget import epoch_length, training_passes
from scripts.unlearning.calibrated_teacher import CalibratedTeacher
from scripts.unlearning.encoder_features import EncoderFeatures
from scripts.unlearning.fast_training import FastTraining
from scripts.unlearning.forget_term import ForgetTerm
from scripts.unlearning.frozen import Original
from scripts.unlearning.gain_target import GainTarget
from scripts.unlearning.gain_term import GainTerm
from scripts.unlearning.gradient_ascent import GradientAscent
from scripts.unlearning.gradient_projection import GradientProjection
from scripts.unlearning.l1_penalty import L1Penalty
from scripts.unlearning.loss_target import LossTarget
from scripts.unlearning.masked_reinit import MaskedReinit
from scripts.unlearning.mirror_image import MirrorImage
from scripts.unlearning.mirror_target import MirrorTarget
from scripts.unlearning.no_training import NoTraining
from scripts.unlearning.noisy_label import NoisyLabel
from scripts.unlearning.perturb import Perturb
from scripts.unlearning.psnr_term import PsnrTerm
from scripts.unlearning.residual_gaussian import ResidualGaussian
from scripts.unlearning.retain_distillation import RetainDistillation
from scripts.unlearning.rewind import Rewind
from scripts.unlearning.saliency_mask import SaliencyMask
from scripts.unlearning.scrub import Scrub
from scripts.unlearning.synaptic_dampening import SynapticDampening
from scripts.unlearning.target_per_scan import TargetPerScan
from scripts.unlearning.task_negation import TaskNegation
from scripts.unlearning.teacher_term import TeacherTerm
from scripts.unlearning.weight_average import WeightAverage

__all__ = [
    "Anneal",
    "AugmentedSlices",
    "BlindTeacher",
    "Blindspot",
    "BlockHealing",
    "BoundedAscent",
    "CalibratedTeacher",
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
    "PsnrTerm",
    "ResidualGaussian",
    "RetainDistillation",
    "Rewind",
    "SaliencyMask",
    "Scrub",
    "SynapticDampening",
    "TargetPerScan",
    "TaskNegation",
    "TeacherTerm",
    "WeightAverage",
    "epoch_length",
    "training_passes",
]
