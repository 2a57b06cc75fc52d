"""What is added to the loss on the trainer's own batch, on a network of one weight: J = (w x - y)²."""

import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from scripts.unlearning import (
    GradientAscent,
    L1Penalty,
    PsnrTerm,
    RetainDistillation,
)
from scripts.unlearning.terms import relative_error_db
from tests.helpers import Scale, sample, trainer

RETAIN = sample(value=1.0, target=3.0, forget=False)  # dJ/dw at w = 1: -4
FORGET = sample(value=2.0, target=3.0, forget=True)  # dJ/dw at w = 1: -4
LR = 0.1


def run(handlers, loader=(RETAIN,), epochs=1) -> float:
    network = Scale(1.0)
    trainer(network, list(loader), handlers, lr=LR, epochs=epochs).run()
    return float(network.weight.detach())


def test_gradient_ascent_with_l1():
    handlers = [GradientAscent(forget_weight=2.0), L1Penalty(gamma=0.5)]
    assert run(handlers, [FORGET]) == pytest.approx(1 - LR * (2 * 4 + 0.5))


def test_retain_distillation_pulls_towards_the_original():
    """Step 1: dD/dw = 0 at S = G. Step 2 from w = 1.4: dJ/dw = -3.2, dD/dw = 2 (1.4 - 1), twice."""
    distillation = RetainDistillation(weight=2.0)
    assert run([distillation], [RETAIN, RETAIN]) == pytest.approx(1.4 + LR * (3.2 - 2 * 0.8))
    assert float(distillation.original.network.weight) == 1.0


def test_retain_distillation_leaves_the_forget_part_alone():
    method = GradientAscent(forget_loader=[FORGET], retain_weight=0.5, forget_weight=0.1)
    assert run([RetainDistillation(), method], [RETAIN, RETAIN]) == pytest.approx(
        1.16 + LR * (0.5 * 2 * (3 - 1.16) - 0.5 * 2 * (1.16 - 1) - 0.1 * 2 * 2 * (3 - 2 * 1.16))
    )


def test_psnr_term_by_hand():
    """J + w·20·log10(|w x − y|/|y|): dJ/dw = 2 (1 − 3), and of the term 20 w / (ln 10 · (1 − 3))."""
    network = Scale(1.0)
    trainer(network, [RETAIN], [PsnrTerm(weight=0.5)], lr=0.1).run()
    gradient = 2 * (1 - 3) + 0.5 * 20 / (math.log(10) * (1 - 3))
    assert float(network.weight.detach()) == pytest.approx(1 - 0.1 * gradient, rel=1e-5)


def test_a_decibel_of_the_term_is_one_of_psnr():
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 1, 8, 8, generator=generator)
    images = [target + scale * torch.randn(2, 1, 8, 8, generator=generator) for scale in (0.1, 0.3)]
    psnr = [
        [peak_signal_noise_ratio(t.numpy(), i.numpy(), data_range=1.0) for t, i in zip(target, image, strict=True)]
        for image in images
    ]
    terms = [relative_error_db(image, target).tolist() for image in images]
    assert [a - b for a, b in zip(*terms, strict=True)] == pytest.approx(
        [b - a for a, b in zip(*psnr, strict=True)], abs=1e-4
    )


def test_a_perfect_image_and_an_empty_reference_give_finite_gradients():
    for target in (1.0, 0.0):
        image = torch.full((1, 1, 4, 4), target, requires_grad=True)
        relative_error_db(image, torch.full((1, 1, 4, 4), target)).sum().backward()
        assert torch.isfinite(image.grad).all()


def test_arguments():
    with pytest.raises(ValueError, match="'weight': expected a number above 0, found 0"):
        PsnrTerm(weight=0)
