"""Unlearning methods: Ignite handlers for MONAI's SupervisedTrainer, one class each."""

from scripts.unlearning.forget_term import ForgetTerm
from scripts.unlearning.gradient_ascent import GradientAscent
from scripts.unlearning.l1_penalty import L1Penalty
from scripts.unlearning.noisy_label import NoisyLabel

__all__ = ["ForgetTerm", "GradientAscent", "L1Penalty", "NoisyLabel"]
